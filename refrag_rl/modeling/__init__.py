"""REFRAG as Hugging Face classes: configuration, model, mixing, tokenizing chunks, checkpoints."""

from transformers import AutoConfig, AutoModelForCausalLM

from refrag_rl.modeling.config import RefragConfig
from refrag_rl.modeling.model import RefragForCausalLM

AutoConfig.register("refrag", RefragConfig, exist_ok=True)
AutoModelForCausalLM.register(RefragConfig, RefragForCausalLM, exist_ok=True)

__all__ = ["RefragConfig", "RefragForCausalLM"]
