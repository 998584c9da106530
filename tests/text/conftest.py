import pytest

from streamtrans.text import Tokenizer, train_tokenizer

SENTENCES = [
    "wake me up at nine am on friday",
    "what's the weather in berlin tomorrow",
    "weck mich am freitag um neun uhr auf",
    "wie wird das wetter morgen in berlin",
    "réveille-moi à neuf heures du matin",
    "quel temps fera-t-il demain à berlin",
    "星期五早上九点叫醒我",
    "明天柏林天气怎么样",
    "明天早上九点柏林天气怎么样",
]


@pytest.fixture(scope="session")
def sentences():
    return SENTENCES


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(SENTENCES * 3, 420, ["en", "de", "fr", "zh"]).save(str(folder / "tokenizer.json"))
    return Tokenizer.load(folder)
