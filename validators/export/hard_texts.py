"""Texts on which tokenizers differ: accents, scripts, emoji, control characters, added tokens, lengths, every character of Unicode."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterable, Iterator

_WRITTEN = (
    *("", " ", "   ", "a", ".", "Hello world", " leading and  double   spaces ", "MiXeD CaSe", "x" * 150, "word " * 2000, "a" * 10_000),
    *("tab\tnewline\nreturn\r\nend", "\x01\x02\x1f\x7f\x85\x9f", "\x0bvertical\x0cform", "\u0085next line", "line\u2028sep\u2029para"),
    *("naïve café Ünïcödé ÀÉÎÕÜ", "cafe\u0301 decomposed", "a\u0300\u0301\u0302\u0303\u0323", "Å Å ẛ̣", "İstanbul ı ß ẞ ſ ﬁ ﬂ", "trışık", "ʼn ǆ ǅ ᾳ ᾼ ﬁ\u0301 ½\u0308 a\u0340 \u212b\u0301"),
    *("Ελληνικά ΣΊΣΥΦΟΣ ς", "Русский Ёё Йй", "Đđ Øø Łł ŋ æ œ", "Tiếng Việt có dấu", "Türkçe ğüşiöç"),
    *("العربية نص", "مرحبا\u0640\u064b", "עברית נִקּוּד", "हिन्दी पाठ", "বাংলা", "தமிழ்", "ไทยไม่มีช่องว่าง", "ქართული", "አማርኛ"),
    *("日本語のテキスト", "カタカナ ｶﾀｶﾅ ひらがな", "が が ゙", "中文字符 mixed with English", "한국어 텍스트", "가 각", "㍿ ㋿ ㈱", "𠜎𠜱 \U00020000"),
    *("emoji 😀👍🏽👨‍👩‍👧‍👦 end", "🇩🇪🇫🇷 flags", "❤️ ☺︎ 1️⃣", "😀" * 60, "𝕬𝖇𝖈 𐍈", "\U000e0001 tag", "\U000f0003 private \ue000 \U00100003"),
    *("\u200bzero\u200d width\u200c", "soft\u00adhyphen", "a\u2060b \ufeffBOM", "\u00a0nbsp\u2003em\u3000ideographic", "\u202eright to left\u202c", "\ufffd \ufffe \uffff"),
    *("don't can't it's o'clock we'll I'm", "...!!??--__~~``''\"\"", "“smart” ‘quotes’ – — …", "¿Qué? ¡No!", "$100 €50 £20 ¥1000 50%", "1,234.56 1e-5 0x1F"),
    *("http://example.com/a?b=c&d=e#f", "user@mail.com", "C++ C# .NET", "snake_case camelCase", "Ⅳ Ⅷ ½ ² ³ ①", "Ａｂｃ fullwidth １２３！", "<s> </s> <pad> <unk> <mask>", "[CLS] [SEP] [MASK]", "▁ ▁▁ ##a Ġ"),
)  # fmt: skip
_POOL = "abcXYZ 019.,!?'\"-_()[]<>/\\@#éßİıΣςжЙ日本がカ한가नि😀👍eaﬁÅ\u0301\u0301\u0323\u0308\u3099\u200d\u00a0\u3000\t\n\x01\ufffd"
_RANDOM_TEXTS = 60
_CHARACTERS_A_TEXT = 512


def hard_texts(added_tokens: Iterable[str]) -> list[str]:
    """Returns texts that were written by hand, with accents apart too, texts with the tokenizer's added tokens, and random ones.

    None has the character U+0000: Python hands texts to ONNX Runtime as C strings, which end there.

    Args:
        added_tokens: Tokens that the tokenizer finds before anything else; 20 of them are used.
    """
    around = ("{}", "a{}b", " {} ", "x {} y{}{}z", "é{}.{} {}", "\n{}\u00a0{}")
    tokens = list(added_tokens)[:20]
    with_tokens = [form.replace("{}", token) for token in tokens for form in around]
    changed = [text for token in tokens for text in (token.upper(), token.lower(), token[:-1])]
    source = random.Random(7)
    random_texts = [
        "".join(source.choices(_POOL, k=source.randint(1, 80))) for _ in range(_RANDOM_TEXTS)
    ]
    taken_apart = [unicodedata.normalize("NFD", text) for text in _WRITTEN]
    apart = [text for text in taken_apart if text not in _WRITTEN]
    return [*_WRITTEN, *apart, *with_tokens, *changed, *random_texts]


def character_texts() -> Iterator[list[str]]:
    """Yields every assigned character of Unicode but U+0000, in groups of parts of one text: within a word, and alone.

    Surrogates are no characters, and those of the private planes are all alike.
    """
    points = [*range(1, 0xD800), *range(0xE000, 0xE100), *range(0xF900, 0xF0000)]
    known = [chr(one) for one in points if unicodedata.category(chr(one)) != "Cn"]
    for start in range(0, len(known), _CHARACTERS_A_TEXT):
        yield [f"a{one}b {one} " for one in known[start : start + _CHARACTERS_A_TEXT]]
