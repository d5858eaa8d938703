"""PPO in the manner of CleanRL, in plain PyTorch. Run: python examples/cleanrl_style.py."""

import gymnasium
import torch
from torch import nn

import refrag_rl  # noqa: F401  (registers the environment)


class Agent(nn.Module):
    """Scores each chunk by its own embedding and features; the value is a mean over chunks."""

    def __init__(self, space):
        super().__init__()
        width = space["chunk_embeddings"].shape[1] + space["features"].shape[1]
        self.body = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 64), nn.Tanh())
        self.actor, self.critic = nn.Linear(64, 1), nn.Linear(64, 1)

    def forward(self, observation):
        """Return the distribution of the next pick, and the value, of a batch."""
        obs = {key: torch.as_tensor(value) for key, value in observation.items()}
        hidden = self.body(torch.cat([obs["chunk_embeddings"], obs["features"]], dim=-1))
        logits = self.actor(hidden).squeeze(-1).masked_fill(obs["action_mask"] == 0, -1e8)
        return torch.distributions.Categorical(logits=logits), self.critic(hidden.mean(1))[:, 0]


def main(updates=20, num_envs=32, budget=4, epochs=4, clip=0.2):
    """Train; return the mean rewards, nats per token over nothing expanded."""
    torch.manual_seed(0)
    options = {"budget": budget, "reward_baseline": "compressed", "flat": False, "count": 200}
    envs = gymnasium.make_vec(
        "refrag_rl/SelectiveExpansion-v0", num_envs, autoreset_mode="SameStep", **options
    )
    agent = Agent(envs.single_observation_space)
    optimizer = torch.optim.Adam(agent.parameters(), lr=1e-3)
    obs, curve = envs.reset(seed=0)[0], []
    for _ in range(updates):
        steps = []
        for _ in range(budget):  # every episode has this length
            with torch.no_grad():
                picks, _ = agent(obs)
            action = picks.sample()
            steps.append((obs, action, picks.log_prob(action)))
            obs, reward, *_ = envs.step(action.numpy())
        returns = torch.as_tensor(reward).float()  # no discount, and the reward comes at the end
        for seen, action, old_log_prob in steps * epochs:  # a minibatch is one step of all episodes
            picks, value = agent(seen)
            ratio = (picks.log_prob(action) - old_log_prob).exp()
            lead = returns - value.detach()
            lead = (lead - lead.mean()) / (lead.std() + 1e-8)
            gain = torch.min(ratio * lead, ratio.clamp(1 - clip, 1 + clip) * lead)
            optimizer.zero_grad()
            ((returns - value).square().mean() / 2 - gain.mean()).backward()
            optimizer.step()
        curve.append(float(returns.mean()))
    return curve


if __name__ == "__main__":
    print(*(f"{reward:+.4f}" for reward in main()))
