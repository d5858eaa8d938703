import json

import pytest
import torch
from safetensors.torch import save_file

from refrag_rl.errors import UserError
from refrag_rl.policies.pointer import PointerConfig, PointerPolicy
from refrag_rl.policies.storage import StoredPolicy, load_policy, save_policy


@pytest.fixture
def stored() -> StoredPolicy:
    return StoredPolicy(PointerPolicy(PointerConfig(6, width=8)), "grpo", {"seed": 3})


@pytest.fixture
def folder(stored, tmp_path):
    save_policy(stored, tmp_path / "run" / "policy")
    return tmp_path / "run" / "policy"


def test_what_is_saved_is_loaded(stored, folder):
    loaded = load_policy(folder, embedding_size=6)
    assert loaded.agent == "grpo"
    assert loaded.training == {"seed": 3}
    assert loaded.policy.config == stored.policy.config
    for name, tensor in stored.policy.state_dict().items():
        assert torch.equal(loaded.policy.state_dict()[name], tensor)


def test_the_folder_holds_json_and_safetensors_and_no_scraps(folder):
    assert sorted(file.name for file in folder.iterdir()) == ["policy.json", "policy.safetensors"]


def test_saving_again_replaces(stored, folder):
    other = StoredPolicy(PointerPolicy(PointerConfig(5, width=8)), "ppo")
    save_policy(other, folder)
    assert load_policy(folder).policy.config.embedding_size == 5


def edit(folder, **changes):
    path = folder / "policy.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_another_embedding_width_is_a_user_error(folder):
    with pytest.raises(UserError, match="width 6, not 8"):
        load_policy(folder, embedding_size=8)


def test_an_empty_folder_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="no policy there"):
        load_policy(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "policy.json").write_text("{"), "as JSON"),
        (lambda f: (f / "policy.json").write_text("[]"), "not a refrag-rl policy"),
        (lambda f: edit(f, version=99), "version 99"),
        (lambda f: edit(f, config=None), "'config' is missing"),
        (lambda f: edit(f, config={"embedding_size": 6, "size": 3}), "unknown policy option"),
        (lambda f: (f / "policy.safetensors").unlink(), "cannot be read"),
        (lambda f: (f / "policy.safetensors").write_bytes(b"x"), "not the weights"),
    ],
)
def test_damage_is_a_user_error(folder, damage, message):
    damage(folder)
    with pytest.raises(UserError, match=message):
        load_policy(folder)


def test_weights_that_do_not_fit_are_a_user_error(stored, folder):
    edit(folder, weights_sha256=None)
    tensors = dict(stored.policy.state_dict())
    tensors["output.weight"] = torch.zeros(1, 9)
    del tensors["output.bias"]
    save_file(tensors, folder / "policy.safetensors")
    with pytest.raises(UserError, match=r"2 tensors do not fit.*output.bias"):
        load_policy(folder)
    (folder / "policy.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="not a safetensors file"):
        load_policy(folder)
