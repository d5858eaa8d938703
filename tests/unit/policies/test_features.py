import pytest
import torch

from refrag_rl.errors import UserError
from refrag_rl.observation import CHUNK_FEATURES, check_features
from refrag_rl.policies.features import count_columns, feature_columns


@pytest.fixture
def raw() -> torch.Tensor:
    return torch.rand(2, 6, len(CHUNK_FEATURES), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", CHUNK_FEATURES)
def test_each_feature_gives_the_columns_it_declares_and_padding_does_not_matter(name, raw):
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
    columns = feature_columns(raw, mask, [name])
    assert columns.shape == (2, 6, count_columns([name]))
    assert (columns[0, 4:] == 0).all()
    short = feature_columns(raw[:1, :4], mask[:1, :4], [name])
    torch.testing.assert_close(columns[:1, :4], short)


def test_values_stay_moderate_whatever_the_raw_scale(raw):
    mask = torch.ones(2, 6)
    large = raw * torch.tensor([1.0, 12.0, 1.0, 80.0, 1.0, 1.0, 1.0, 8.0])
    assert feature_columns(large, mask, CHUNK_FEATURES).abs().max() < 6


def test_unknown_and_repeated_names_are_user_errors():
    with pytest.raises(UserError, match="choose from position"):
        check_features(["positions"])
    with pytest.raises(UserError, match="once"):
        check_features(["lexical", "lexical"])
