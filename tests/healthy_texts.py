"""Healthy texts with characters that careless detectors take for damage."""

from __future__ import annotations

HEALTHY = {
    "a list of languages": (
        "Languages: English, Русский, 中文, العربية, हिन्दी, ไทย, 한국어, עברית, Ελληνικά, ქართული."
    ),
    "a menu of languages": "English\nРусский\n中文\nالعربية\nहिन्दी\nไทย\n한국어\nעברית\nΕλληνικά\n" * 3,
    "a menu of languages in one line": "English Русский 中文 العربية हिन्दी ไทย 한국어 עברית Ελληνικά",
    "a phrase book": "".join(
        f"| {n} | hello | привет | 你好 | مرحبا | नमस्ते | สวัสดี | 안녕 | שלום |\n" for n in range(9)
    ),
    "transliterations": (
        "Moscow (Москва) and Kyoto (京都) are twinned with Cairo (القاهرة), Seoul (서울) and Tbilisi. "
    )
    * 4,
    "Russian with brands": (
        "Компания Apple выпустила iPhone и MacBook, а Google обновила Android и YouTube до версии 14. "
    )
    * 5,
    "Serbian in both scripts": (
        "Добар дан, како сте? Dobar dan, kako ste? Хвала, добро сам. Hvala, dobro sam.\n"
    )
    * 6,
    "a Chinese manual": "使用 ls 命令列出文件。选项 -l 显示详细信息，Python的pandas库也可以。" * 8,
    "Japanese": "今日はPythonを使ってデータを分析します。ラーメンを食べながら、コードを書きました。" * 8,
    "Korean with particles": "Python은 쉽고 GitHub에서 JavaScript를 배우며 API의 사용법. 美國과 中國. " * 6,
    "mathematics": "Let α, β ∈ ℝ and Δx → 0; then ∑ₙ λₙ·μₙ ≤ π², where 𝐱 ∈ ℂⁿ, θ = 5 μm and Ω is open. " * 5,
    "IPA": "water /ˈwɔːtə/, bird /bɜːd/, thought /θɔːt/, ring /ɹɪŋ/, über /ˈyːbɐ/, chateau /ʃɑˈtoʊ/. " * 5,
    "Vietnamese": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi. " * 5,
    "German nouns": (
        "Die Donaudampfschifffahrtsgesellschaft verkauft „Übergrößenträger“ für Äpfel, Öl und Überzüge. "
    )
    * 5,
    "French quotations": (
        "« À l’été », répondit-il : « Ça… où ça ? — Là-bas, à l’hôtel “Côté mer”… », dit-elle. "
    )
    * 5,
    "Spanish": "¿Qué pasó? —preguntó él—. «¡Adiós!», respondió… “Mañana será otro día”, añadió después. " * 5,
    "PORTUGUESE IN CAPITALS": ("ATENÇÃO: NÃO HÁ INFORMAÇÕES. A REUNIÃO É ÀS DEZ; A SITUAÇÃO É GRAVÍSSIMA. ")
    * 5,
    "Ukrainian": (
        "Сіль і хліб. Її ім'я — Іванна. Від Львова до Києва їдемо вночі. Рік Єдності. Після Їжака. "
    )
    * 5,
    "Polish": "Zażółć gęślą jaźń. Święta Bożego Narodzenia są zimą, a Łódź leży w środku Polski. " * 5,
    "emoji": "Great job! 🎉🎉 You did it 👍🏽 — see you soon ❤️ 👩‍💻 and 🇩🇪🇫🇷. ¯\\_(ツ)_/¯ " * 6,
    "names of products": (
        "McDonald's sells on eBay; JavaScript, TypeScript, GitHub, iPhone, YouTube and LaTeX are names. "
    )
    * 6,
    "code": (
        "def read(path: str) -> list[str]:\n    # 读取文件\n    return open(path).read().split('\\n')\n\n"
    )
    * 8,
    "a log": "2024-01-02T03:04:05Z ERROR app.server[123]: GET /api/v1/users?id=42&name=x%20y 500 12ms\n" * 12,
    "percent-encoded": (
        "See https://zh.wikipedia.org/wiki/%E4%B8%AD%E6%96%87 and file:///C:/Users/a_b/My.Doc for more. "
    )
    * 6,
    "base64": (
        "The key is "
        "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAu1SU1LfVLPHCozMxH2Mo4lgOEePzNm0tRgeLezV6ffAt0g. "
    )
    * 3,
    "leetspeak": "th3 qu1ck br0wn f0x jump5 0v3r th3 l4zy d0g, s0 pwn3d n00bs c4n r34d th15 t00. " * 5,
    "formulas": ("Mix H2SO4 with NaCl and K2Cr2O7; CH3COOH and C6H12O6 dissolve, as do Fe2(SO4)3 and MgCl2. ")
    * 5,
    "technical English": "Call the getUser method of the user_api module, or pass --dry-run to build.sh; "
    "see the README.md and the config.json of the project for what isEnabled and MAX_SIZE do. " * 4,
    "an output cut in a character": "The flag of Scotland is 🏴\ufffd",
    "nothing": "",
    "blanks": " \n\t ",
}
