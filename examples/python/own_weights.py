"""A layer from arrays, quantised to NVFP4, beside the same layer in f32."""

import numpy as np
import switchyard

rng = np.random.default_rng(7)
tokens, hidden, intermediate, experts = 6, 128, 64, 8
gate_up = rng.uniform(-0.2, 0.2, (experts, 2 * intermediate, hidden)).astype(np.float32)
down = rng.uniform(-0.2, 0.2, (experts, hidden, intermediate)).astype(np.float32)
x = rng.uniform(-1, 1, (tokens, hidden)).astype(np.float32)
logits = rng.uniform(-3, 3, (tokens, experts)).astype(np.float32)

# [own_weights]
weights = switchyard.Experts.quantize(gate_up, down, "nvfp4")  # [E, 2I, H] gate first, [E, H, I]
layer = switchyard.MoELayer(weights, top_k=2, routing="softmax_renormalize", activation="swiglu")
plan = layer.plan(max_tokens=16)  # once per batch size bucket
y = plan(x, router_logits=logits)  # every call: same bits every time
# [own_weights]

exact = switchyard.Experts.from_arrays(gate_up, down, format="f32")
z = switchyard.MoELayer(exact, top_k=2)(x, router_logits=logits)
print(plan.explain())
print(f"relative distance of NVFP4: {np.linalg.norm(y - z) / np.linalg.norm(z):.3f}")
