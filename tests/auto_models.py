"""Tiny random checkpoints of speech models that only transformers runs, each with its own processor."""

import json
from pathlib import Path

import tokenizers
import torch
from transformers import (
    CanaryConfig,
    CanaryForConditionalGeneration,
    CanaryProcessor,
    GlmAsrConfig,
    GlmAsrForConditionalGeneration,
    GlmAsrProcessor,
    MoonshineConfig,
    MoonshineForConditionalGeneration,
    ParakeetFeatureExtractor,
    PreTrainedTokenizerFast,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    SeamlessM4TFeatureExtractor,
    SeamlessM4TProcessor,
    SeamlessM4TTokenizer,
    SeamlessM4Tv2Config,
    SeamlessM4Tv2ForSpeechToText,
    Speech2TextConfig,
    Speech2TextFeatureExtractor,
    Speech2TextForConditionalGeneration,
    Speech2TextProcessor,
    Speech2TextTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
    WhisperFeatureExtractor,
)

from tests.translators import SPECIAL, learn, sentences

MUSTC = ("pt", "fr", "ru", "nl", "ro", "it", "es", "de")


def saved(network, processor, folder: Path):
    """Save a network whose initial weights are so large that logits differ, and its processor."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1 and "conv" not in name:
                parameter.mul_(4.0)
    network.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return network, processor


def learnt(*special):
    """Return a tokenizer of pieces in the manner of SentencePiece that knows the ``special`` ones."""
    learner = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    learner.normalizer = tokenizers.normalizers.Replace(" ", "▁")
    learner.decoder = tokenizers.decoders.Replace("▁", " ")
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=260, special_tokens=[*SPECIAL, *special], show_progress=False)
    learner.train_from_iterator(sentences("en", "de"), trainer)
    return learner


def fast(learner, **named):
    specials = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=learner, **specials | named)


def make_speech2text(folder: Path, *, several: bool = True):
    """Save a Speech2Text of MuST-C's ``several`` targets, or one that writes a single language."""
    torch.manual_seed(0)
    folder.mkdir(exist_ok=True)
    asks = [f"<lang:{code}>" for code in MUSTC] if several else []
    model, names = learn("en", "de", size=200, symbols=asks)
    (folder / "spm.model").write_bytes(model)
    numbers = {name: at for at, name in enumerate(dict.fromkeys([*SPECIAL, *names]))}
    (folder / "numbers.json").write_text(json.dumps(numbers))
    named = {"lang_codes": "mustc", "tgt_lang": "de"} if several else {}
    tokenizer = Speech2TextTokenizer(str(folder / "numbers.json"), str(folder / "spm.model"), **named)
    config = Speech2TextConfig(
        vocab_size=len(numbers) + 8,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        conv_channels=32,
        max_target_positions=96,
    )
    processor = Speech2TextProcessor(Speech2TextFeatureExtractor(), tokenizer)
    return saved(Speech2TextForConditionalGeneration(config), processor, folder)


def make_seamless(folder: Path):
    """Save a SeamlessM4T v2 of three languages, without what it needs to speak."""
    torch.manual_seed(0)
    asks = ("__eng__", "__deu__", "__cmn__")
    model = json.loads(learnt().to_str())["model"]
    order = ["<pad>", "<unk>", "<s>", "</s>"]
    vocabulary = {name: at for at, name in enumerate([*order, *(name for name in model["vocab"] if name not in order)])}
    tokenizer = SeamlessM4TTokenizer(
        vocab=vocabulary,
        merges=[tuple(merge) for merge in model["merges"]],
        additional_special_tokens=list(asks),
        tgt_lang="deu",
    )
    config = SeamlessM4Tv2Config(
        vocab_size=len(tokenizer) + 4,
        hidden_size=32,
        encoder_layers=1,
        decoder_layers=2,
        speech_encoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        speech_encoder_attention_heads=2,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        speech_encoder_intermediate_size=48,
        max_position_embeddings=128,
    )
    network = SeamlessM4Tv2ForSpeechToText(config)
    codes = {name.strip("_"): tokenizer.convert_tokens_to_ids(name) for name in asks}
    network.generation_config.text_decoder_lang_to_code_id = codes
    network.generation_config._from_model_config = False  # else transformers reads it from config.json again
    return saved(network, SeamlessM4TProcessor(SeamlessM4TFeatureExtractor(), tokenizer), folder)


def make_moonshine(folder: Path):
    """Save a Moonshine, which hears samples and writes English."""
    torch.manual_seed(0)
    tokenizer = fast(learnt())
    config = MoonshineConfig(
        vocab_size=len(tokenizer) + 3,
        hidden_size=32,
        intermediate_size=48,
        encoder_num_hidden_layers=2,
        decoder_num_hidden_layers=2,
        encoder_num_attention_heads=2,
        decoder_num_attention_heads=2,
        decoder_start_token_id=0,
        bos_token_id=0,
        eos_token_id=2,
        max_position_embeddings=96,
    )
    made = saved(
        MoonshineForConditionalGeneration(config),
        Wav2Vec2Processor(Wav2Vec2FeatureExtractor(return_attention_mask=True), tokenizer),
        folder,
    )
    (folder / "README.md").write_text("---\nlanguage:\n- en\n---\n")
    return made


REQUEST = (
    "{% set said = messages[0]['content'] | selectattr('type', 'equalto', 'text') | first %}"
    "<|startofcontext|><|startoftranscript|><|{{ said.source_language }}|><|{{ said.target_language }}|><|pnc|>"
)


def make_canary(folder: Path):
    """Save a Canary of three languages, whose processor makes prompts of requests."""
    torch.manual_seed(0)
    asks = ["<|startofcontext|>", "<|startoftranscript|>", "<|pnc|>", "<|en|>", "<|de|>", "<|fr|>"]
    tokenizer = fast(learnt(*asks))
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 48}
    ends = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    config = CanaryConfig(
        encoder_config={"model_type": "parakeet_encoder", **sizes, "subsampling_conv_channels": 8, "num_mel_bins": 80},
        decoder_config={
            "vocab_size": len(tokenizer),
            "head_dim": 16,
            "num_key_value_heads": 2,
            "max_position_embeddings": 96,
            **sizes,
            **ends,
        },
        vocab_size=len(tokenizer),
        decoder_start_token_id=tokenizer.convert_tokens_to_ids(asks[0]),
        **ends,
    )
    processor = CanaryProcessor(ParakeetFeatureExtractor(feature_size=80), tokenizer, chat_template=REQUEST)
    return saved(CanaryForConditionalGeneration(config), processor, folder)


ASKED = (
    "{% for message in messages %}<|im_start|>user\n{% for part in message['content'] %}"
    "{% if part['type'] == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)


def make_audio_llm(folder: Path, *, window: int | None = None):
    """Save a decoder that reads sound in its prompt, with a ``window`` of positions that its attention reaches."""
    torch.manual_seed(0)
    names = ["<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = fast(learnt(*names), eos_token="<|im_end|>")
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": 1, "bos_token_id": 0}
    config = Qwen2AudioConfig(
        audio_config={
            "num_mel_bins": 80,
            "d_model": 32,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
        },
        text_config={
            "model_type": "mistral",
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "sliding_window": window,
            **ends,
        },
        audio_token_id=tokenizer.convert_tokens_to_ids("<|AUDIO|>"),
    )
    network = Qwen2AudioForConditionalGeneration(config)
    network.generation_config.eos_token_id = tokenizer.eos_token_id
    processor = Qwen2AudioProcessor(WhisperFeatureExtractor(feature_size=80), tokenizer, chat_template=ASKED)
    made = saved(network, processor, folder)
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | {"languages": ["en", "de"]}))
    return made


TURNS = (
    "{% for message in messages %}<|user|>\n{% for part in message['content'] %}"
    "{% if part['type'] == 'audio' %}<|begin_of_audio|><|pad|><|end_of_audio|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}<|assistant|>\n"
)


def make_glm_asr(folder: Path):
    """Save a GLM-ASR, whose processor makes the prompt of a transcript and of nothing else."""
    torch.manual_seed(0)
    names = ["<|pad|>", "<|user|>", "<|assistant|>", "<|begin_of_audio|>", "<|end_of_audio|>"]
    tokenizer = fast(learnt(*names), eos_token="<|user|>")
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2}
    config = GlmAsrConfig(
        audio_config={**sizes, "num_hidden_layers": 1, "num_mel_bins": 80, "max_position_embeddings": 1500},
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "num_hidden_layers": 2,
            "num_key_value_heads": 2,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": 1,
            "bos_token_id": 0,
            **sizes,
        },
        audio_token_id=tokenizer.convert_tokens_to_ids("<|pad|>"),
    )
    network = GlmAsrForConditionalGeneration(config)
    network.generation_config.eos_token_id = tokenizer.eos_token_id
    processor = GlmAsrProcessor(WhisperFeatureExtractor(feature_size=80), tokenizer, chat_template=TURNS)
    made = saved(network, processor, folder)
    (folder / "README.md").write_text("---\nlanguage:\n- en\n- zh\n- de\n---\n")
    return made
