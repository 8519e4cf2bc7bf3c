"""What PyTorch does on this GPU, to set beside our own rows: `npm run bench -- --peers FILE`.

    python torch_baselines.py --json peers.json
    python torch_baselines.py --only matmul --only attention

Needs PyTorch 2.11; the parts train, forward and generate also transformers 5.17. Loads nothing from anywhere: weights
are random and made on the GPU. Everything takes under 100 s on an H100. `--small --device cpu` only tries the script out.

Each row of the JSON has the name and shape of the row of `npm run bench` that it stands beside, its dtype (bfloat16
where ours is float16), and `milliseconds`: the median of at least five samples of at least `--sample` milliseconds
each, of back-to-back runs after a warm-up.
"""

import argparse
import json
import math
import os
import statistics
import sys
import time

for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
    os.environ[name] = "1"

import torch
import torch.nn.functional as F

ROWS = []
SKIPPED = []


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=list(PARTS), help="only this part; may be repeated")
    parser.add_argument("--json", help="writes the results here; without it they go to standard output")
    parser.add_argument("--sample", type=float, default=20.0, help="milliseconds of a sample (default 20)")
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes")
    return parser.parse_args()


def synchronize():
    if ARGS.device == "cuda":
        torch.cuda.synchronize()


def milliseconds(run, samples=None, warm=2):
    """Median time of one run, in bunches that last long enough for the wait at their end not to matter."""

    def bunch(count):
        synchronize()
        begin = time.perf_counter()
        for _ in range(count):
            run()
        synchronize()
        return (time.perf_counter() - begin) * 1e3

    for _ in range(warm):
        bunch(1)
    count = 1
    while (total := bunch(count)) < ARGS.sample and count < 4096:
        count = min(4096, max(count + 1, math.ceil(count * min(10.0, 1.2 * ARGS.sample / max(total, 1e-3)))))
    return statistics.median(bunch(count) / count for _ in range(samples or ARGS.samples))


def report(name, shape, dtype, time_ms, **more):
    row = {"name": name, "shape": shape, "dtype": str(dtype).replace("torch.", ""), "milliseconds": time_ms, **more}
    for count, rate in (("flops", "flopsPerSecond"), ("bytes", "bytesPerSecond"), ("tokens", "tokensPerSecond")):
        if count in row:
            row[rate] = row[count] / time_ms * 1e3
    ROWS.append(row)
    rates = [f"{row[r]:.3e} {r}" for r in ("flopsPerSecond", "bytesPerSecond", "tokensPerSecond") if r in row]
    print(f"{name:12} {shape:58} {row['dtype']:9} {time_ms:10.3f} ms  {' '.join(rates)}", file=sys.stderr, flush=True)


def random(*shape, dtype=torch.bfloat16, grad=False):
    made = torch.randn(*shape, device=ARGS.device, dtype=torch.float32).to(dtype)
    return made.requires_grad_(grad)


def free():
    if ARGS.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


# ---- matrix products: [M, K] x [K, N], stored as the layout says (T: transposed) ----

TRAIN_SHAPES = [  # name, tokens, out, in: the linear layers of Llama-3.2-1B at 4 x 2048 tokens
    ("q, o", 8192, 2048, 2048),
    ("k, v", 8192, 512, 2048),
    ("gate, up", 8192, 8192, 2048),
    ("down", 8192, 2048, 8192),
    ("head", 1024, 128256, 2048),
]


def matmul():
    squares = [(n, n, n, layout, "") for n in ((64,) if ARGS.small else (4096, 8192)) for layout in ("NN", "NT", "TN")]
    train = [] if ARGS.small else TRAIN_SHAPES
    shapes = squares + [
        each
        for name, tokens, out, inside in train
        for each in (
            (tokens, out, inside, "NT", f"{name} forward"),
            (tokens, inside, out, "NN", f"{name} input gradient"),
            (out, inside, tokens, "TN", f"{name} weight gradient"),
        )
    ]
    for dtype in (torch.float16, torch.bfloat16):
        for m, n, k, layout, use in shapes:
            a = random(k, m, dtype=dtype).t() if layout[0] == "T" else random(m, k, dtype=dtype)
            b = random(n, k, dtype=dtype).t() if layout[1] == "T" else random(k, n, dtype=dtype)
            out = torch.empty(m, n, device=ARGS.device, dtype=dtype)
            time_ms = milliseconds(lambda: torch.mm(a, b, out=out))
            label = f"{m}×{k}×{n} {layout} float16"
            report("matmul", label, dtype, time_ms, flops=2 * m * n * k, **({"use": use} if use else {}))
            del a, b, out
        free()


def attention():
    batch, heads, length, size = (1, 2, 64, 16) if ARGS.small else (8, 32, 2048, 64)
    shape = f"B{batch} T{length} H{heads}/{heads} d{size} float16"
    pairs = batch * heads * length * (length + 1) // 2
    for dtype in (torch.bfloat16, torch.float16):
        q, k, v = (random(batch, heads, length, size, dtype=dtype, grad=True) for _ in range(3))
        g = random(batch, heads, length, size, dtype=dtype)

        def forward():
            with torch.no_grad():
                F.scaled_dot_product_attention(q, k, v, is_causal=True)

        def both():
            q.grad = k.grad = v.grad = None
            F.scaled_dot_product_attention(q, k, v, is_causal=True).backward(g)

        report("attention", f"forward {shape}", dtype, milliseconds(forward), flops=2 * 2 * size * pairs)
        report("attention", f"+backward {shape}", dtype, milliseconds(both), flops=2 * 7 * size * pairs)
        del q, k, v, g
    free()


def copy():
    count = 1 << (16 if ARGS.small else 28)
    source = torch.zeros(count, device=ARGS.device)
    target = torch.empty_like(source)
    report("copy", f"{4 * count} bytes", source.dtype, milliseconds(lambda: target.copy_(source)), bytes=8 * count)
    del source, target
    free()


def rows():
    tokens, hidden, wide = (64, 32, 64) if ARGS.small else (16384, 2048, 8192)
    with torch.no_grad():
        for ours, dtype in (("float32", torch.float32), ("float16", torch.bfloat16)):
            x, weight = random(tokens, hidden, dtype=dtype), random(hidden, dtype=dtype)
            size = x.element_size()
            time_ms = milliseconds(lambda: F.rms_norm(x, (hidden,), weight, 1e-5))
            report("rms-norm", f"{tokens}×{hidden} {ours}", dtype, time_ms, bytes=2 * size * tokens * hidden)
            gate, up = random(tokens, wide, dtype=dtype), random(tokens, wide, dtype=dtype)
            time_ms = milliseconds(lambda: F.silu(gate) * up)
            report("swiglu", f"{tokens}×{wide} {ours}", dtype, time_ms, bytes=3 * size * tokens * wide)
            del x, weight, gate, up
    free()


# ---- the Llama-3.2-1B shape ----


def sizes():
    if ARGS.small:
        return dict(vocab=256, hidden=64, inner=128, layers=2, heads=4, kv=2, head=16)
    return dict(vocab=128256, hidden=2048, inner=8192, layers=16, heads=32, kv=8, head=64)


def parameter_shapes():
    s = sizes()
    q, kv = s["heads"] * s["head"], s["kv"] * s["head"]
    layer = [(q, s["hidden"]), (kv, s["hidden"]), (kv, s["hidden"]), (s["hidden"], q)]
    layer += [(s["inner"], s["hidden"])] * 2 + [(s["hidden"], s["inner"]), (s["hidden"],), (s["hidden"],)]
    return [(s["vocab"], s["hidden"]), (s["hidden"],)] + layer * s["layers"]


def adamw():
    for name, shapes in (
        ("4×8192×2048 with clipping float32", [(8192, 2048)] * 4),
        ("Llama-3.2-1B float32", parameter_shapes()),
    ):
        if ARGS.small:
            shapes = [(64, 32)] * 4
        weights = [torch.nn.Parameter(torch.zeros(shape, device=ARGS.device)) for shape in shapes]
        for weight in weights:
            weight.grad = torch.randn_like(weight)
        optimizer = torch.optim.AdamW(weights, lr=1e-4, weight_decay=0.1, fused=True)
        clips = "clipping" in name

        def step():
            if clips:
                torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()

        count = sum(weight.numel() for weight in weights)
        # Weight, gradient and both moments read, weight and moments written; the norm reads the gradients once more.
        report("adamw", name, torch.float32, milliseconds(step), bytes=4 * count * (8 if clips else 7), parameters=count)
        del weights, optimizer, step
        free()


def llama():
    """A Llama with random weights in bfloat16, made on the device, or None without transformers."""
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError as error:
        raise Skip(f"transformers is not installed ({error})") from error
    s = sizes()
    config = LlamaConfig(
        vocab_size=s["vocab"],
        hidden_size=s["hidden"],
        intermediate_size=s["inner"],
        num_hidden_layers=s["layers"],
        num_attention_heads=s["heads"],
        num_key_value_heads=s["kv"],
        head_dim=s["head"],
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(ARGS.device):
            return LlamaForCausalLM(config), s["vocab"]
    finally:
        torch.set_default_dtype(before)


def tokens_of(vocabulary, batch, length):
    return torch.randint(vocabulary, (batch, length), device=ARGS.device)


def train():
    model, vocabulary = llama()
    batch, length = (1, 32) if ARGS.small else (4, 2048)
    ids = tokens_of(vocabulary, batch, length)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.1, fused=True)

    def step():
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    time_ms = milliseconds(step)
    peak = torch.cuda.max_memory_allocated() if ARGS.device == "cuda" else 0
    shape = f"Llama-3.2-1B B{batch} T{length} AdamW float16"
    report("train-step", shape, torch.bfloat16, time_ms, tokens=batch * length, peakBytes=peak)
    if not ARGS.small:
        given = "not measured here: PyTorch 2.11 on an H100, November 2026"
        shape = f"1B hybrid 4 MLA + 12 Mamba2 from Llama-3.2-1B B{batch} T{length} AdamW float16"
        tokens = batch * length
        report("distillation-step", shape, torch.bfloat16, tokens / 31.1, tokens=tokens, source=given, given=True)
    del model, optimizer, step
    free()


def forward():
    model, vocabulary = llama()
    batch, length = (1, 32) if ARGS.small else (4, 2048)
    ids = tokens_of(vocabulary, batch, length)
    model.eval()

    def run():
        # The head for the last position alone, as a prompt is read; ours stops at the hidden states too.
        with torch.no_grad():
            model(input_ids=ids, use_cache=False, logits_to_keep=1)

    def whole():
        with torch.no_grad():
            model(input_ids=ids, use_cache=False)

    report("forward", f"Llama-3.2-1B B{batch} T{length} float16", torch.bfloat16, milliseconds(run), tokens=batch * length)
    shape = f"Llama-3.2-1B B{batch} T{length} with logits float16"
    report("forward", shape, torch.bfloat16, milliseconds(whole), tokens=batch * length)
    del model, run, whole
    free()


def generate():
    model, vocabulary = llama()
    model.eval()
    model.generation_config.pad_token_id = 0
    model.generation_config.eos_token_id = None
    prompt, new = (8, 4) if ARGS.small else (128, 64)
    for batch in (1, 32):
        ids = tokens_of(vocabulary, batch, prompt)
        mask = torch.ones_like(ids)

        def run():
            with torch.no_grad():
                made = model.generate(ids, attention_mask=mask, max_new_tokens=new, min_new_tokens=new, do_sample=False)
            assert made.shape[1] == prompt + new, made.shape

        shape = f"Llama-3.2-1B B{batch} prompt {prompt} new {new} float16"
        report("generate", shape, torch.bfloat16, milliseconds(run, samples=3, warm=1), tokens=batch * new)
    del model, run
    free()


# ---- Mamba-2's chunked scan, in plain PyTorch ----


def chunked_scan(x, dt, rate, b, c, chunk):
    """y_t = c_t · s_t with s_t = exp(dt_t rate) s_(t-1) + dt_t b_t x_t: x [B,T,H,P], dt [B,T,H], rate [H], b and c [B,T,H,N]."""
    batch, length, heads, width = x.shape
    chunks = length // chunk
    split = lambda value: value.reshape(batch, chunks, chunk, heads, -1).permute(0, 3, 1, 2, 4)
    x, b, c = split(x * dt[..., None].to(x.dtype)), split(b), split(c)
    logs = split((dt * rate).float())[..., 0].cumsum(-1)
    causal = torch.ones(chunk, chunk, dtype=torch.bool, device=x.device).tril()
    decay = (logs[..., :, None] - logs[..., None, :]).masked_fill(~causal, -torch.inf).exp()
    inside = ((c @ b.transpose(-1, -2)) * decay.to(x.dtype)) @ x
    tail = (logs[..., -1:] - logs).exp().to(x.dtype)
    added = (x * tail[..., None]).transpose(-1, -2) @ b
    state = torch.zeros_like(added[:, :, 0], dtype=torch.float32)
    before = []
    for i in range(chunks):
        before.append(state)
        state = state * logs[:, :, i, -1].exp()[..., None, None] + added[:, :, i]
    carried = (c * logs.exp().to(c.dtype)[..., None]) @ torch.stack(before, 2).to(c.dtype).transpose(-1, -2)
    return (inside + carried).permute(0, 2, 3, 1, 4).reshape(batch, length, heads, width)


def recurrence(x, dt, rate, b, c):
    """The same, step by step in float64."""
    x, dt, rate, b, c = (value.double() for value in (x, dt, rate, b, c))
    state = x.new_zeros(x.shape[0], x.shape[2], x.shape[3], b.shape[3])
    out = []
    for t in range(x.shape[1]):
        state = state * (dt[:, t] * rate).exp()[..., None, None]
        state = state + (dt[:, t, :, None] * x[:, t])[..., None] * b[:, t, :, None, :]
        out.append((state * c[:, t, :, None, :]).sum(-1))
    return torch.stack(out, 1)


def scan_inputs(batch, length, heads, width, states, dtype, grad):
    x, b, c = (random(batch, length, heads, n, dtype=dtype, grad=grad) for n in (width, states, states))
    dt = F.softplus(random(batch, length, heads, dtype=torch.float32) - 3).requires_grad_(grad)
    return x, dt, -torch.rand(heads, device=ARGS.device) - 0.5, b, c


def scan():
    small = scan_inputs(2, 64, 2, 8, 4, torch.float32, False)
    wanted = recurrence(*small)
    error = ((chunked_scan(*small, 16) - wanted).norm() / wanted.norm()).item()
    if not error < 1e-4:  # float32 sums of 64 steps
        raise AssertionError(f"the chunked scan is off by {error:.1e}")
    batch, length, heads, width, states = (1, 256, 2, 16, 16) if ARGS.small else (8, 2048, 32, 64, 64)
    shape = f"B{batch} T{length} H{heads} P{width} N{states} G{heads}"
    inputs = scan_inputs(batch, length, heads, width, states, torch.bfloat16, True)
    g = random(batch, length, heads, width)

    def run():
        with torch.no_grad():
            chunked_scan(*inputs, 128)

    def both():
        for value in inputs:
            value.grad = None
        chunked_scan(*inputs, 128).backward(g)

    source = "plain PyTorch, chunks of 128"
    report("scan", f"forward {shape} plain", torch.bfloat16, milliseconds(run), source=source)
    report("scan", f"+backward {shape} plain", torch.bfloat16, milliseconds(both), source=source)
    if not ARGS.small:
        given = "not measured here: mamba_ssm's Triton kernels on an H100, November 2026"
        report("scan", f"forward {shape}", torch.bfloat16, 0.55, source=given, given=True)
        report("scan", f"+backward {shape}", torch.bfloat16, 3.8, source=given, given=True)
    free()


class Skip(Exception):
    """A part that can't run here, and why."""


PARTS = {
    "copy": copy,
    "matmul": matmul,
    "attention": attention,
    "rows": rows,
    "adamw": adamw,
    "scan": scan,
    "forward": forward,
    "train": train,
    "generate": generate,
}

ARGS = parse()


def main():
    begin = time.perf_counter()
    cuda = ARGS.device == "cuda"
    torch.manual_seed(0)
    failed = []
    for name in ARGS.only or PARTS:
        try:
            PARTS[name]()
        except Skip as reason:
            SKIPPED.append({"part": name, "reason": str(reason)})
            print(f"{name}: skipped, {reason}", file=sys.stderr)
        except Exception as error:  # the other parts still count
            failed.append({"part": name, "message": f"{type(error).__name__}: {error}"})
            print(f"{name}: failed, {type(error).__name__}: {error}", file=sys.stderr)
            free()
    result = {
        "peer": f"PyTorch {torch.__version__}",
        "adapter": torch.cuda.get_device_name() if cuda else "cpu",
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(time.perf_counter() - begin, 1),
        "rows": ROWS,
        "skipped": SKIPPED,
        "failed": failed,
    }
    text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
    if ARGS.json:
        with open(ARGS.json, "w", encoding="utf-8") as file:
            file.write(text)
    else:
        sys.stdout.write(text)
    print(f"{len(ROWS)} rows in {result['seconds']} s", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
