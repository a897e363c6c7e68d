"""A compiled PyTorch model with our layer inside."""

import switchyard
import switchyard.torch
import torch

hidden, intermediate, experts = 128, 64, 8
gate_up = torch.randn(experts, 2 * intermediate, hidden) * 0.1
down = torch.randn(experts, hidden, intermediate) * 0.1


class Block(torch.nn.Module):
    # [torch_module]
    def __init__(self, layer):
        super().__init__()
        self.router = torch.nn.Linear(hidden, experts, bias=False)
        self.moe = switchyard.torch.MoE(layer, max_tokens=64)

    def forward(self, x):  # [batch, sequence, H]
        return x + self.moe(x, router_logits=self.router(x))

    # [torch_module]


layer = switchyard.MoELayer(switchyard.Experts.from_arrays(gate_up, down, format="f32"), top_k=2)
block = torch.compile(Block(layer), fullgraph=True, backend="eager")
with torch.no_grad():
    print(block(torch.randn(2, 8, hidden)).shape)
