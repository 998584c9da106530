"""Tiny random translators of texts, saved by transformers with vocabularies learnt from the article of human rights."""

from __future__ import annotations

import json
import warnings
from io import BytesIO
from pathlib import Path

import sentencepiece
import tokenizers
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    M2M100Config,
    M2M100ForConditionalGeneration,
    M2M100Tokenizer,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    NllbTokenizer,
    PreTrainedTokenizerFast,
)

from streamtrans.text import articles

LANGUAGES = ("en", "de", "fr", "zh", "ru")
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def sentences(*languages):
    return [part for language in languages for part in articles()[language].split(", ")] * 3


def learn(*languages, size=200, symbols=()):
    """Return a SentencePiece model of BPE that knows some ``symbols`` besides, and its pieces."""
    model = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences(*languages)),
        model_writer=model,
        model_type="bpe",
        vocab_size=size,
        character_coverage=0.98,
        user_defined_symbols=list(symbols),
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    names = [processor.id_to_piece(at) for at in range(processor.get_piece_size())]
    return model.getvalue(), [name for name in names if name not in SPECIAL]


def enlarged(model):
    """Make the initial weights so large that logits differ."""
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.requires_grad:
                continue  # positions, which follow from the config
            if parameter.ndim > 1:
                parameter.mul_(6.0)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def sizes(encoder, decoder):
    return {
        "d_model": 32,
        "encoder_layers": encoder,
        "decoder_layers": decoder,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 64,
        "max_position_embeddings": 96,
    }


def make_m2m(folder: Path, *, small: bool = False, seed: int = 0):
    """Save an M2M-100, or a ``small`` one in the manner of SMaLL-100; return transformers' model and tokenizer."""
    torch.manual_seed(seed)
    folder.mkdir(exist_ok=True)
    model, names = learn(*LANGUAGES, size=260)
    (folder / "sentencepiece.bpe.model").write_bytes(model)
    numbers = {name: at for at, name in enumerate([*SPECIAL, *names])}
    (folder / "vocab.json").write_text(json.dumps(numbers))
    tokenizer = M2M100Tokenizer(str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model"))
    tokenizer.save_pretrained(folder)
    config = M2M100Config(vocab_size=len(numbers) + 100 + 8, **sizes(2, 1 if small else 2))
    network = enlarged(M2M100ForConditionalGeneration(config))
    network.save_pretrained(folder)
    return network, tokenizer


def make_nllb(folder: Path, *, seed: int = 0):
    """Save an NLLB-200; return transformers' model and tokenizer."""
    torch.manual_seed(seed)
    folder.mkdir(exist_ok=True)
    learner = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    learner.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=260, special_tokens=SPECIAL, show_progress=False)
    learner.train_from_iterator(sentences(*LANGUAGES), trainer)
    said = json.loads(learner.to_str())["model"]
    tokenizer = NllbTokenizer(vocab=said["vocab"], merges=[tuple(merge) for merge in said["merges"]])
    tokenizer.save_pretrained(folder)
    config = M2M100Config(vocab_size=len(tokenizer), **sizes(2, 2))
    network = enlarged(M2M100ForConditionalGeneration(config))
    network.save_pretrained(folder)
    return network, tokenizer


CHAT = [*SPECIAL, "<|im_start|>", "<|im_end|>"]


def make_llama(folder: Path, *, seed: int = 0, **changes):
    """Save a decoder of the Llama kind that is asked in ChatML; return transformers' model and tokenizer."""
    torch.manual_seed(seed)
    folder.mkdir(exist_ok=True)
    learner = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>", byte_fallback=False))
    learner.normalizer = tokenizers.normalizers.Replace(" ", "▁")
    learner.decoder = tokenizers.decoders.Replace("▁", " ")
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=CHAT,
        show_progress=False,
        initial_alphabet=[*map(chr, range(33, 127)), "▁", "\n"],
    )
    asked = ["Translate the following text from English into German."]
    learner.train_from_iterator(sentences("en", "de") + asked, trainer)
    learner.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=learner, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )
    tokenizer.save_pretrained(folder)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "rope_theta": 5_000.0,
    }
    config = LlamaConfig(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=2, pad_token_id=1, **sizes | changes)
    network = enlarged(LlamaForCausalLM(config))
    network.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\nlanguage:\n- en\n- de\n- tlh\ntags:\n- x\n---\n# A model\n")
    return network, tokenizer


def make_marian(folder: Path, *, targets: tuple[str, ...] = (), seed: int = 0):
    """Save an Opus-MT of English into German, or into ``targets``; return transformers' model and tokenizer."""
    torch.manual_seed(seed)
    folder.mkdir(exist_ok=True)
    source, heard = learn("en", size=120)
    target, written = learn(*(targets or ("de",)), size=120)
    (folder / "source.spm").write_bytes(source)
    (folder / "target.spm").write_bytes(target)
    asks = [f">>{code}<<" for code in targets]
    numbers = {name: at for at, name in enumerate(dict.fromkeys(["</s>", "<unk>", *asks, *heard, *written, "<pad>"]))}
    (folder / "vocab.json").write_text(json.dumps(numbers))
    named = {"source_lang": "en", "target_lang": "roa" if targets else "de"}
    files = [str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")]
    with warnings.catch_warnings():  # without sacremoses, which straightens quotation marks
        warnings.filterwarnings("ignore", "Recommended: pip install sacremoses")
        tokenizer = MarianTokenizer(*files, **named)
    tokenizer.save_pretrained(folder)
    pad = numbers["<pad>"]
    config = MarianConfig(
        vocab_size=len(numbers),
        **sizes(2, 2),
        activation_function="swish",
        scale_embedding=True,
        pad_token_id=pad,
        eos_token_id=0,
        decoder_start_token_id=pad,
        forced_eos_token_id=None,
    )
    network = enlarged(MarianMTModel(config))
    with torch.no_grad():
        network.final_logits_bias.copy_(torch.randn_like(network.final_logits_bias))
    network.save_pretrained(folder)
    return network, tokenizer
