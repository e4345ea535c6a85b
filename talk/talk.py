"""Train the small DaGAN so that mouth and eyes follow: landmark-guided key points and motion, attention that gets gradients.

python talk.py --output runs/main                                     start, or go on exactly where the last checkpoint is
python talk.py --output runs/cool --from runs/main/checkpoints/000xxxxxxx.pt --cooldown 16000     cosine to 0 over 16 000 pairs
python talk.py --output runs/p256 --from ... --size 256 --batch 4 --stop 200000                   the later stage at 256 px

Samples follow from (seed, number of the step); the learning rate from the number of pairs seen; so kill it whenever you like.
"""
import argparse, copy, fcntl, glob, hashlib, json, math, os, shutil, signal, sys, time
import numpy as np

P = argparse.ArgumentParser()
P.add_argument("--output", required=True)
P.add_argument("--init", default="../shared/trials/guided_21k")
P.add_argument("--from", dest="start", default="", help="checkpoint to branch from (model, average, optimiser, pairs seen)")
P.add_argument("--cooldown", type=int, default=0, help="pairs over which the learning rate goes to 0.02 of itself; the run ends then")
P.add_argument("--stop", type=int, default=10**9, help="pairs seen at which the run ends")
P.add_argument("--size", type=int, default=128)
P.add_argument("--batch", type=int, default=8)
P.add_argument("--lr", type=float, default=4e-4)
P.add_argument("--warmup", type=int, default=3200)
P.add_argument("--attention-lr", type=float, default=3.0, help="times lr: query, key, value, depth encoder")
P.add_argument("--gate-lr", type=float, default=0.1, help="times lr: the gate, slower than what it gates, or it closes before that has learned")
P.add_argument("--gate", type=float, default=0.2, help="the attention's gate at the start")
P.add_argument("--average", type=float, default=0.999)
P.add_argument("--seed", type=int, default=1)
P.add_argument("--precision", default="bf16", choices=["bf16", "fp32"])
P.add_argument("--threads", type=int, default=1)
P.add_argument("--save-minutes", type=float, default=10)
P.add_argument("--validate", type=int, default=4000)
P.add_argument("--keep", type=int, default=20000, help="weights kept for good every so many pairs")
P.add_argument("--w-guided", type=float, default=40)
P.add_argument("--w-gap", type=float, default=40)
P.add_argument("--w-flow", type=float, default=40)
P.add_argument("--w-consistency", type=float, default=15)
P.add_argument("--w-equivariance", type=float, default=10)
P.add_argument("--w-distance", type=float, default=1)
P.add_argument("--w-pyramid", type=float, default=100)
P.add_argument("--w-deformed", type=float, default=50)
P.add_argument("--region", type=float, default=12, help="errors weigh up to 1 + this around mouth and eyes")
P.add_argument("--profile", type=int, default=0)
P.add_argument("--max-steps", type=int, default=0, help="end after so many steps of this process (tests)")
P.add_argument("--digest", action="store_true", help="print a hash of all weights at the end (tests)")
A = P.parse_args()

os.environ.setdefault("OMP_NUM_THREADS", str(A.threads))
import torch
import torch.nn.functional as F

torch.set_num_threads(A.threads)
torch.use_deterministic_algorithms(False)
from depthaware import DaGAN, Keypoints
from depthaware.losses import RandomTransform, equivariance_loss, keypoint_distance_loss, photometric_error
from depthaware.motion import DenseMotion, motion_heatmaps
from depthaware.geometry import coordinate_grid, inverse_2x2
from landmarks import measures

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
# Guided: mouth corners, inner upper and lower lip, upper and lower lid of either eye, nose tip, chin.
G = [[48], [54], [62], [66], [37, 38], [40, 41], [43, 44], [46, 47], [30], [8]]
GAPS = ((3, 2), (1, 0), (5, 4), (7, 6))  # mouth opening, mouth width, either eye
# Of the 68: which opposite points the motion must keep apart (inner lips, corners, lids).
PAIRS = torch.tensor([[66, 62], [65, 63], [67, 61], [54, 48], [41, 37], [40, 38], [47, 43], [46, 44]]).T
FLIP = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), 45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    + [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
)
FLOW = torch.ones(68)  # how much the motion at each landmark matters: outline little, it is hidden when the head turns
FLOW[:17] = 0.3
FLOW[36:48] = 3
FLOW[48:] = 2
FLOW[60:] = 3
FLOW /= FLOW.sum()


class Data:
    def __init__(self, size):
        self.x = np.load(f"{DATA}/x{size}.npy", mmap_mode="r")
        self.d = np.load(f"{DATA}/d{size}.npy", mmap_mode="r")
        z = np.load(f"{DATA}/meta.npz")
        self.l, self.clip, self.identity = z["l"], z["clip"], z["identity"]
        self.f = measures(self.l.astype(np.float64))
        held = set(json.load(open(f"{DATA}/heldout.json"))["all"])
        self.by, self.weight, held_clips = {}, {}, []
        for c in np.unique(self.clip):
            n = np.flatnonzero(self.clip == c)
            if len(n) < 5:
                continue
            moves = bool((self.f[n].std(0) >= (0.03, 0.03, 0.05)).any())
            who = str(self.identity[n[0]])
            if who in held:
                if self.f[n].std(0)[:2].max() >= 0.03:
                    held_clips.append(n)
                continue
            self.by.setdefault(who, []).append((n, 1.0 if moves else 0.4))
        self.ids = sorted(self.by)
        p = np.array([max(w for _, w in self.by[i]) for i in self.ids])
        self.p = p / p.sum()
        # Validation: first frame of a clip and eight others, at most 14 clips.
        self.val = [(n[0], n[np.linspace(1, len(n) - 1, min(8, len(n) - 1)).round().astype(int)]) for n in held_clips[:: max(1, len(held_clips) // 14)][:14]]

    def pair(self, rng):
        clips = self.by[self.ids[rng.choice(len(self.ids), p=self.p)]]
        w = np.array([c[1] for c in clips])
        n = clips[rng.choice(len(clips), p=w / w.sum())][0]
        f, u = self.f[n], rng.random()
        # Events: one end of what this clip's mouth or eyes do against the rest of it.
        feature, event = (2, u < 0.22) if u < 0.22 else (int(rng.integers(2)), u < 0.42)
        if event:
            order = np.argsort(f[:, feature])
            if f[order[-1], feature] - f[order[0], feature] > (0.08, 0.08, 0.1)[feature]:
                end = max(1, len(n) // 8)
                low = feature == 2 or rng.random() < 0.5
                a, b = rng.choice(order[:end] if low else order[-end:]), rng.choice(order[end:] if low else order[:-end])
                return (n[a], n[b]) if rng.random() < 0.5 else (n[b], n[a])
        a, c = rng.integers(len(n)), rng.integers(len(n), size=4)
        change = np.minimum(np.abs(f[c] - f[a]) / (0.08, 0.08, 0.08), 2).sum(1) + 15 * np.abs(self.l[n[c]] - self.l[n[a]]).mean((1, 2))
        return n[a], n[c[change.argmax()]]

    def read(self, n):
        x = torch.from_numpy(self.x[n]).permute(0, 3, 1, 2).float() / 255
        return torch.cat((x, torch.from_numpy(self.d[n]).float()[:, None]), 1), torch.from_numpy(self.l[n])

    def batch(self, step):
        """Source and driving (B, 4, S, S), the fourth channel being disparity, and landmarks (B, 68, 2)."""
        rng = np.random.default_rng([A.seed, step])
        a, b = np.array([self.pair(rng) for _ in range(A.batch)]).T
        (s, ls), (d, ld) = self.read(a), self.read(b)
        flip = rng.random(A.batch) < 0.5
        colour = np.eye(3) * rng.uniform(0.85, 1.15, (A.batch, 1, 3))
        gray, mix = np.array([0.299, 0.587, 0.114]), rng.uniform(-0.15, 0.4, (A.batch, 1, 1)) * (rng.random((A.batch, 1, 1)) < 0.5)
        colour, shift = colour @ ((1 - mix) * np.eye(3) + mix * gray), rng.uniform(-0.05, 0.05, (A.batch, 3, 1, 1))
        affine = rng.random() < 0.5
        scale, angle = rng.uniform(0.82, 1.05, A.batch), rng.uniform(-0.1, 0.1, A.batch)
        move = rng.uniform(-0.09, 0.09, (A.batch, 2))
        out = []
        for x, l in ((s, ls), (d, ld)):
            l = l.clone()
            for i in np.flatnonzero(flip):
                x[i] = x[i].flip(-1)
                l[i] = l[i][FLIP] * torch.tensor([-1.0, 1.0])
            if affine:
                m = np.stack([np.stack([np.cos(angle), -np.sin(angle)], 1), np.stack([np.sin(angle), np.cos(angle)], 1)], 1) * scale[:, None, None]
                theta = torch.from_numpy(np.concatenate((m, move[..., None]), 2)).float()
                x = F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=True), padding_mode="reflection", align_corners=True)
                l = (l - theta[:, None, :, 2]) @ torch.linalg.inv(theta[:, :, :2]).transpose(1, 2)
            rgb = (torch.einsum("bij,bjhw->bihw", torch.from_numpy(colour).float(), x[:, :3]) + torch.from_numpy(shift).float()).clamp(0, 1)
            out.append((torch.cat((rgb, x[:, 3:]), 1), l))
        (s, ls), (d, ld) = out
        return s, d, ls, ld


def targets(l):
    return torch.stack([l[:, g].mean(1) for g in G], 1)


def gaps(v):
    return torch.stack([v[:, a] - v[:, b] for a, b in GAPS], 1)


def gap_error(v, t):
    """Of mouth opening, width, and lids; the lids', which are smaller, count twice."""
    w = torch.tensor([1.0, 1.0, 2.0, 2.0])[:, None]
    return F.smooth_l1_loss(w * gaps(v), w * gaps(t), beta=0.01)


def region(l, size):
    """(B, 1, S, S): 1, and up to 1 + A.region around mouth and eyes."""
    axis = torch.linspace(-1, 1, size)
    eyes = (l[:, 36:42].mean(1) - l[:, 42:48].mean(1)).norm(dim=-1)
    w = 0
    for part, a, b, gain in ((slice(48, 68), 0.55, 0.42, 1.0), (slice(36, 42), 0.34, 0.25, 1.0), (slice(42, 48), 0.34, 0.25, 1.0)):
        c = l[:, part].mean(1)
        gx = torch.exp(-(((axis - c[:, :1]) / (a * eyes[:, None])) ** 2))
        gy = torch.exp(-(((axis - c[:, 1:]) / (b * eyes[:, None])) ** 2))
        w = w + gain * gy[:, :, None] * gx[:, None]
    return 1 + A.region * w[:, None]


def pyramid(p, t, w, levels=4):
    e = 0
    for k in range(levels):
        e = e + (photometric_error(p, t, alpha=0.5) * w).sum() / w.sum()
        if k < levels - 1:
            p, t, w = F.avg_pool2d(p, 2), F.avg_pool2d(t, 2), F.avg_pool2d(w, 2)
    return e / levels


def locate(detector, feature):
    """The detector's `_locate`, the Jacobians' maps (not the heat maps) in bfloat16."""
    heat = detector._heatmap(detector.kp(feature))
    n, h, w = heat.shape[1:]
    value = torch.stack((heat.sum(2) @ torch.linspace(-1, 1, w), heat.sum(3) @ torch.linspace(-1, 1, h)), -1)
    if detector.values_only:
        return Keypoints(value)
    with cast():
        maps = detector.jacobian(feature)
    return Keypoints(value, (heat[:, :, None] * maps.unflatten(1, (n, 4))).sum((-2, -1)).unflatten(-1, (2, 2)))


def sparse_motion(ks, kd, size):
    """`depthaware.motion.sparse_motion` as rows + columns."""
    m = ks.jacobian @ inverse_2x2(kd.jacobian)
    t = ks.value - (m * kd.value[:, :, None]).sum(-1)
    x, y = torch.linspace(-1, 1, size[1]), torch.linspace(-1, 1, size[0])
    rows = m[..., 1, None] * y + t[..., None]  # (B, N, 2, h)
    columns = m[..., 0, None] * x  # (B, N, 2, w)
    motions = (rows.transpose(2, 3)[:, :, :, None] + columns.transpose(2, 3)[:, :, None])  # (B, N, h, w, 2)
    grid = coordinate_grid(*size).expand(len(t), 1, -1, -1, -1)
    return torch.cat((grid, motions), 1)


def from_small(net, small, ks, kd):
    """`DenseMotionNetwork.from_small` with one 7 x 7 convolution instead of two."""
    with torch.autocast("cpu", enabled=False):
        motions = sparse_motion(ks, kd, small.shape[-2:])
    deformed = net._deform(small, motions)
    heat = motion_heatmaps(ks, kd, small.shape[-2:])
    feature = net.hourglass(torch.cat((heat[:, :, None], deformed), 2).flatten(1, 2))
    both = F.conv2d(feature, torch.cat((net.mask.weight, net.occlusion.weight)), torch.cat((net.mask.bias, net.occlusion.bias)), padding=3)
    mask = both[:, :-1].float().softmax(1)
    deformation = (mask[..., None] * motions).sum(1)
    return DenseMotion(deformation, torch.sigmoid(both[:, -1:].float()), mask, motions, deformed)


def fast(model):
    model.kp_detector.values_only = False
    model.kp_detector._locate = lambda feature: locate(model.kp_detector, feature)
    if A.size == 128:
        # At 256 px and 0.25 the motion's view is blurrier (sigma 1.5 of 256) than at 128 and 0.5; make them alike.
        for down in (model.kp_detector.down, model.dense_motion.down):
            taps = torch.arange(-2, 3, dtype=torch.float32)
            k = torch.exp(-taps.square() / (2 * 0.7**2))
            down.weight.copy_(((k[:, None] * k) / k.sum() ** 2).expand_as(down.weight))
    return model.to(memory_format=torch.channels_last)


def cast():
    return torch.autocast("cpu", torch.bfloat16, enabled=A.precision == "bf16")


def drive(m, s, d, ks, kd):
    motion = from_small(m.dense_motion, m.dense_motion.down(s[:, :3]), ks, kd)
    frame = m.generator.decode(s[:, :3], m.generator.encode(s[:, :3], s[:, 3:]), motion)
    return motion, frame


def part(k, a, b):
    return Keypoints(k.value[a:b], k.jacobian[a:b])


def losses(m, ema, s, d, ls, ld, step):
    B = len(s)
    s, d = (v.contiguous(memory_format=torch.channels_last) for v in (s, d))
    transform = None
    x = torch.cat((s, d))
    if step % 2 == 0:
        h = (B + 1) // 2
        transform = RandomTransform.sample(h, generator=torch.Generator().manual_seed(A.seed * 1000003 + step))
        x = torch.cat((x, transform.warp_image(d[:h])))
    with cast():
        k = m.kp_detector(x[:, :3], x[:, 3:])
        ks, kd = part(k, 0, B), part(k, B, 2 * B)
        motion, frame = drive(m, s, d, ks, kd)
    prediction, deformed, w, n = frame.prediction.float(), frame.deformed.float(), region(ld, A.size), len(G)
    out = {}
    t = targets(torch.cat((ls, ld)))
    v = k.value[: 2 * B, :n]
    out["guided"] = 2 * A.w_guided * F.smooth_l1_loss(v, t, beta=0.02)
    out["gap"] = 2 * A.w_gap * gap_error(v, t)
    # The motion itself: what it shows at a landmark of the driving frame must be that landmark of the source.
    at = F.grid_sample(motion.deformation.float().permute(0, 3, 1, 2), ld[:, None], padding_mode="border", align_corners=True)[:, :, 0].transpose(1, 2)
    inside = (ld.abs().amax(-1) < 1).float()
    flow = (F.smooth_l1_loss(at, ls, beta=0.02, reduction="none").mean(-1) * FLOW * inside).sum(1).mean()
    apart = F.smooth_l1_loss(at[:, PAIRS[0]] - at[:, PAIRS[1]], ls[:, PAIRS[0]] - ls[:, PAIRS[1]], beta=0.02)
    out["flow"] = A.w_flow * (flow + apart)
    if transform is not None:
        kt = part(k, 2 * B, 2 * B + h)
        e = equivariance_loss(part(kd, 0, h), kt, transform)
        out["equivariance"] = 2 * A.w_equivariance * (e.value + e.jacobian)
        out["guided_t"] = A.w_guided * F.smooth_l1_loss(transform.warp_points(kt.value[:, :n]), t[B : B + h], beta=0.02)
    elif A.w_consistency:
        # The averaged detector must find in the result what it finds in the driving frame.
        ema.kp_detector.values_only = True
        with cast():
            with torch.no_grad():
                want = ema.kp_detector(d[:, :3], d[:, 3:]).value[:, :n]
            got = ema.kp_detector(prediction, d[:, 3:]).value[:, :n]
        ema.kp_detector.values_only = False
        out["consistency"] = 2 * A.w_consistency * (F.smooth_l1_loss(got, want, beta=0.02) + gap_error(got, want))
    out["distance"] = A.w_distance * keypoint_distance_loss(kd.value[:, n:])
    out["pyramid"] = A.w_pyramid * pyramid(prediction, d[:, :3], w)
    out["deformed"] = A.w_deformed * pyramid(deformed, d[:, :3], w)
    return out


def average(ema, model, decay):
    a, b = ema.state_dict(), model.state_dict()
    floats = [k for k in a if a[k].is_floating_point() and not k.startswith("depth_net")]
    torch._foreach_lerp_([a[k] for k in floats], [b[k] for k in floats], 1 - decay)


@torch.no_grad()
def validate(ema, data):
    """Held-out persons: L1 below copying, and per feature correlation and slope (within clips) of what the detector sees in the result
    against the landmarks of the driving frame; `det` is the same of what it sees in the driving frame itself, the ceiling."""
    l1 = copy_ = count = 0
    rows = []
    for first, others in data.val:
        (s, _), (d, ld) = data.read(np.array([first])), data.read(others)
        s = s.expand(len(d), -1, -1, -1)
        with cast():
            kd = ema.kp_detector(d[:, :3], d[:, 3:])
            ks = ema.kp_detector(s[:1, :3], s[:1, 3:])
            ks = Keypoints(ks.value.expand_as(kd.value), ks.jacobian.expand_as(kd.jacobian))
            _, frame = drive(ema, s, d, ks, kd)
            p = frame.prediction.float()
            kr = ema.kp_detector(p, d[:, 3:])
        l1 += float((p - d[:, :3]).abs().mean()) * len(d)
        copy_ += float((s - d)[:, :3].abs().mean()) * len(d)
        count += len(d)
        scale = (ld[:, 36:42].mean(1) - ld[:, 42:48].mean(1)).norm(dim=-1)[:, None]

        def see(v):
            g = gaps(v).norm(dim=-1) / scale
            return torch.stack((g[:, 0], g[:, 1], g[:, 2:].mean(1)), 1)

        trio = torch.stack([see(targets(ld)), see(kr.value[:, : len(G)].float()), see(kd.value[:, : len(G)].float())])
        rows.append((trio - trio.mean(1, keepdim=True)).numpy())
    t, r, q = np.concatenate(rows, 1)
    res = {"l1": l1 / count, "below_copying": 100 * (1 - l1 / copy_)}
    for i, name in enumerate(("mouth", "width", "eyes")):
        for tag, v in (("", r), ("det_", q)):
            res[f"{tag}{name}_r"] = float((t[:, i] * v[:, i]).sum() / math.sqrt((t[:, i] ** 2).sum() * (v[:, i] ** 2).sum() + 1e-12))
            res[f"{tag}{name}_slope"] = float((t[:, i] * v[:, i]).sum() / ((t[:, i] ** 2).sum() + 1e-12))
    return res


def write(path, save):
    """Write beside, to disk, rename."""
    with open(path + ".tmp", "wb") as f:
        save(f)
        f.flush()
        os.fsync(f.fileno())
    os.replace(path + ".tmp", path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def save_weights(holder, ema, folder, pairs):
    holder.load_state_dict(ema.state_dict())
    new = folder + ".new"
    shutil.rmtree(new, ignore_errors=True)
    holder.save_pretrained(new, card=f"---\nlibrary_name: depthaware\n---\n# talk, {pairs} pairs\n\nNot a release: average of a run of ./talk.py.\n")
    old = folder + ".old"
    shutil.rmtree(old, ignore_errors=True)
    if os.path.exists(folder):
        os.rename(folder, old)
    os.rename(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def digest(*states):
    h = hashlib.sha256()
    for state in states:
        for k in sorted(state):
            h.update(state[k].detach().contiguous().numpy().tobytes())
    return h.hexdigest()[:16]


def main():
    out = A.output
    os.makedirs(f"{out}/checkpoints", exist_ok=True)
    lock = open(f"{out}/lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit(f"{out}: a run is going on here")
    options = {k: v for k, v in vars(A).items() if k not in ("profile", "max_steps", "digest", "save_minutes", "stop", "threads", "output")}
    if os.path.exists(f"{out}/options.json"):
        before = json.load(open(f"{out}/options.json"))
        if before != options:
            sys.exit(f"{out} has other options: " + str({k: (before.get(k), options[k]) for k in options if before.get(k) != options[k]}))
    else:
        json.dump(options, open(f"{out}/options.json", "w"), indent=1)

    torch.manual_seed(A.seed)
    holder = DaGAN.from_pretrained(A.init)  # as it will be used: 256 px, 0.25
    model = DaGAN(**dict(holder.config, image_size=A.size, scale_factor=64 / A.size))
    model.load_state_dict(holder.state_dict())
    with torch.no_grad():
        model.generator.attention.gate.fill_(A.gate)
    fast(model)
    model.depth_net.requires_grad_(False)
    ema = fast(copy.deepcopy(model)).eval().requires_grad_(False)
    model.train()
    model.depth_net.eval()
    gate = [model.generator.attention.gate]
    own = [p for n, p in model.named_parameters() if p.requires_grad and (".attention." in n or ".depth_encoder." in n) and not n.endswith(".gate")]
    rest = [p for n, p in model.named_parameters() if p.requires_grad and not (".attention." in n or ".depth_encoder." in n)]
    optimizer = torch.optim.Adam([{"params": rest, "scale": 1.0}, {"params": own, "scale": A.attention_lr}, {"params": gate, "scale": A.gate_lr}], lr=A.lr, betas=(0.5, 0.999), fused=True)

    step = pairs = begin = 0  # begin: pairs at which this branch started
    found = sorted(glob.glob(f"{out}/checkpoints/*.pt"))
    source = found[-1] if found else A.start
    if source:
        state = torch.load(source, weights_only=True)
        model.load_state_dict(state["model"])
        ema.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        step, pairs = state["step"], state["pairs"]
        begin = state["begin"] if found else pairs
        print(f"from {source}: step {step}, {pairs} pairs", flush=True)
    if os.path.exists(f"{out}/stats.jsonl"):  # drop what was written after the checkpoint
        lines = [line for line in open(f"{out}/stats.jsonl") if line.endswith("}\n") and json.loads(line)["step"] <= step]
        write(f"{out}/stats.jsonl", lambda f: f.write("".join(lines).encode()))
    stats = open(f"{out}/stats.jsonl", "a")
    data = Data(A.size)
    print(f"{len(data.ids)} persons, {sum(len(c[0]) for v in data.by.values() for c in v)} frames; held out: {len(data.val)} clips", flush=True)
    params = own + rest + gate
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
    signal.signal(signal.SIGINT, lambda *_: stopping.append(1))

    def log(kind, **row):
        row = {"kind": kind, "step": step, "pairs": pairs, **{k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}, "time": round(time.time())}
        stats.write(json.dumps(row) + "\n")
        stats.flush()
        print(json.dumps(row), flush=True)

    def checkpoint():
        state = {"model": model.state_dict(), "ema": ema.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "pairs": pairs, "begin": begin}
        write(f"{out}/checkpoints/{pairs:010d}.pt", lambda f: torch.save(state, f))
        for old in sorted(glob.glob(f"{out}/checkpoints/*.pt"))[:-2]:
            os.remove(old)
        save_weights(holder, ema, f"{out}/weights", pairs)

    saved = time.time()
    started = time.process_time(), time.time(), step
    totals, n = {}, 0
    end = min(A.stop, begin + A.cooldown if A.cooldown else A.stop)
    if step == 0 and not A.profile:
        log("val", **validate(ema, data))
    while pairs < end and not stopping:
        lr = A.lr * min(1, (pairs + A.batch) / A.warmup)
        if A.cooldown:
            lr *= 0.02 + 0.98 * (1 + math.cos(math.pi * (pairs - begin) / A.cooldown)) / 2
        for group in optimizer.param_groups:
            group["lr"] = lr * group["scale"]
        each = losses(model, ema, *data.batch(step), step)
        loss = sum(each.values())
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(params, 20.0)
        if not torch.isfinite(norm):
            checkpoint_note = {k: float(v) for k, v in each.items()}
            log("skipped", **checkpoint_note)
        else:
            optimizer.step()
        step, pairs = step + 1, pairs + A.batch
        average(ema, model, min(A.average, (step + 1) / (step + 10)))
        for k, v in (*each.items(), ("norm", norm)):
            t = totals.setdefault(k, [0.0, 0])
            t[0] += float(v.detach())
            t[1] += 1
        n += 1
        if n % 50 == 0 or A.profile:
            cpu, wall, at = time.process_time() - started[0], time.time() - started[1], step - started[2]
            log("train", lr=lr, gate=float(model.generator.attention.gate.detach()), cpu_pairs_s=at * A.batch / cpu, wall_pairs_s=at * A.batch / wall, **{k: t[0] / t[1] for k, t in totals.items()})
            totals, started = {}, (time.process_time(), time.time(), step)
        if pairs % A.validate < A.batch:
            log("val", gate=float(ema.generator.attention.gate), **validate(ema, data))
        if A.keep and pairs % A.keep < A.batch:
            save_weights(holder, ema, f"{out}/weights_{pairs:07d}", pairs)
        if time.time() - saved > 60 * A.save_minutes:
            checkpoint()
            saved = time.time()
        if A.max_steps and n >= A.max_steps:
            break
    if not A.profile:
        checkpoint()
    print("ended at", step, pairs, "digest " + digest(model.state_dict(), ema.state_dict()) if A.digest else "", flush=True)


if __name__ == "__main__":
    main()
