"""The most common words of some languages: what running text cannot do without."""

from __future__ import annotations

from collections import Counter

_BY_LANGUAGE = (
    "the of and to is that it for with was as be this are on not you have from by or an at which can if",
    "der die und das den von zu mit sich des auf für ist im dem nicht ein eine als auch es werden aus er",
    "le la les de des et un une du est que qui dans pour pas sur plus au par avec ce il sont vous ne",
    "el la los las de y que en un una por con para del se no es lo su como más al",
    "il di che la e un in per non è del della una i con si da sono le come gli",
    "o a os as de que e do da em um uma para com não por dos é se na no ao",
    "de het een en van in is dat op te zijn voor met niet die aan er om ook of was",
    "och att det i en som är på för av med den till inte har de ett om",
    "og at det i er en til på som for med den af ikke har de et",
    "i w z na się nie do że to jest o jak za od po oraz",
    "a v se na je že s z do o to jako k i pro ve",
    "ja on ei se että oli ovat myös kun tai joka sen mutta",
    "a az és hogy nem is egy meg van ez ha csak már",
    "și în de la cu a care pe nu din este un o să mai",
    "ve bir bu için ile de da olarak çok olan gibi daha",
    "và của là có được cho các trong không một những với người",
    "yang dan di untuk dengan dari pada ini tidak adalah dalam itu",
    "и в не на что с по как это из но за для от он к",
    "і в не на що з та як до це й",
)

COMMON_WORDS = frozenset(word for words in _BY_LANGUAGE for word in words.split())

TELLING_WORDS = frozenset(
    word
    for word, languages in Counter(word for words in _BY_LANGUAGE for word in words.split()).items()
    if languages == 1
)
"""Those of one language only."""
