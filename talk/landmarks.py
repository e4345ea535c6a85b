"""Every 4th frame of all train clips with dlib's 68 landmarks -> ./data (memory-mapped); then `--depth`: its disparity.

python landmarks.py            x128.npy x256.npy (N, S, S, 3) uint8, meta.npz: l (N, 68, 2) in [-1, 1] (align_corners), clip, frame, identity, names; heldout.json
python landmarks.py --depth    d128.npy (N, 128, 128) float16: disparity of the frozen depth network of guided_21k (same as dagan-tiny's)
python landmarks.py --depth 256  the same at 256 px, d256.npy (1.5 GB), for the later stage
"""
import csv, json, sys, time, os
import numpy as np

ROOT, FACES = "./data", "../shared/faces"
EVERY = 4


def clips():
    rows = [r for r in csv.DictReader(open(f"{FACES}/manifest.csv")) if r["kind"] == "clip"]
    return [r for r in rows if r["split"] == "train"]


def measures(l):
    """(N, 68, 2) in any units -> (N, 3): mouth opening, mouth width (over the eye distance), eye opening (aspect ratio, mean of both)."""
    d = lambda a, b: np.linalg.norm(l[:, a] - l[:, b], axis=-1)
    eyes = np.linalg.norm(l[:, 36:42].mean(1) - l[:, 42:48].mean(1), axis=-1)
    ear = lambda i: (d(i + 1, i + 5) + d(i + 2, i + 4)) / (2 * d(i, i + 3))
    return np.stack([d(62, 66) / eyes, d(48, 54) / eyes, (ear(36) + ear(42)) / 2], 1)


def detect():
    import av
    import dlib
    from PIL import Image
    from depthaware.extractors.dlib_faces import dlib_faces

    F = dlib_faces()
    rows = clips()
    total = sum(int(r["n_frames"]) // EVERY + 1 for r in rows)
    X = {s: np.lib.format.open_memmap(f"{ROOT}/x{s}.tmp.npy", "w+", np.uint8, (total, s, s, 3)) for s in (128, 256)}
    L, C, I, K, n, t0 = [], [], [], [], 0, time.time()
    rng = np.random.default_rng(0)
    for c, r in enumerate(rows):
        for k, frame in enumerate(av.open(f"{FACES}/train/clips/{r['name']}.mp4").decode(video=0)):
            if k % EVERY:
                continue
            a = frame.to_ndarray(format="rgb24")
            found = F.detector(a, 0)
            if not found:
                continue
            b = max(found, key=lambda q: q.area())
            # Whole pixels of one box are too coarse for lids: mean over five boxes, in an image of twice the size.
            big = np.asarray(Image.fromarray(a).resize((512, 512), Image.BICUBIC))
            w, points = b.right() - b.left(), []
            for j in range(5):
                x, y, s = (0, 0, 0) if j == 0 else rng.uniform(-0.04, 0.04, 3) * w
                box = dlib.rectangle(*(round(2 * v) for v in (b.left() + x - s, b.top() + y - s, b.right() + x + s, b.bottom() + y + s)))
                points.append([(p.x, p.y) for p in F.predictor(big, box).parts()])
            l = (np.mean(points, 0) - 0.5) / 2
            X[256][n] = a
            X[128][n] = a.reshape(128, 2, 128, 2, 3).mean((1, 3)).round().astype(np.uint8)
            L.append(2 * l / 255 - 1), C.append(c), I.append(r["identity"]), K.append(k)
            n += 1
        if c % 20 == 0:
            print(c, n, f"{time.time() - t0:.0f}s", flush=True)
    for s in X:
        del_, X[s] = X[s], None
        del_.flush()
        out = np.lib.format.open_memmap(f"{ROOT}/x{s}.new.npy", "w+", np.uint8, (n, s, s, 3))
        for i in range(0, n, 512):
            out[i : i + 512] = del_[i : min(i + 512, n)]
        out.flush()
        os.replace(f"{ROOT}/x{s}.new.npy", f"{ROOT}/x{s}.npy")
        os.remove(f"{ROOT}/x{s}.tmp.npy")
    np.savez(f"{ROOT}/meta.npz", l=np.array(L, np.float32), clip=np.array(C), frame=np.array(K), identity=np.array(I), names=np.array([r["name"] for r in rows]))
    print("frames", n, f"{time.time() - t0:.0f}s")


def hold_out():
    """The trial's eight (never seen by guided_21k) and 14 of the persons added later, whose mouths move."""
    rows = clips()
    z = np.load(f"{ROOT}/meta.npz")
    f, clip = measures(z["l"].astype(np.float64)), z["clip"]
    moving = {}
    for c in np.unique(clip):
        s = f[clip == c].std(0)
        if (clip == c).sum() >= 8:
            moving.setdefault(rows[c]["identity"], []).append(max(s[0], s[1]) >= 0.03)
    old = {r["identity"] for r in rows[:-66]}
    new = sorted({r["identity"] for r in rows[-66:]} - old)
    trial = sorted(old)[:8]
    movers = [i for i in new if any(moving.get(i, [False]))]
    pick = sorted(np.random.default_rng(13).permutation(movers)[:14].tolist())
    json.dump({"trial": trial, "new": pick, "all": trial + pick}, open(f"{ROOT}/heldout.json", "w"), indent=1)
    print("persons", len(set(z["identity"])), "new movers", len(movers), "held out", trial, pick)


def depth(size):
    import torch
    from depthaware import DaGAN

    torch.set_num_threads(1)
    net = DaGAN.from_pretrained("../shared/trials/guided_21k").depth_net
    x = np.load(f"{ROOT}/x{size}.npy", mmap_mode="r")
    out = np.lib.format.open_memmap(f"{ROOT}/d{size}.new.npy", "w+", np.float16, x.shape[:3])
    t0 = time.time()
    with torch.inference_mode():
        for i in range(0, len(x), 32):
            image = torch.from_numpy(x[i : i + 32].copy()).permute(0, 3, 1, 2).float() / 255
            out[i : i + 32] = net(image, scales=1)[0][:, 0].numpy()
    out.flush()
    os.replace(f"{ROOT}/d{size}.new.npy", f"{ROOT}/d{size}.npy")
    print("disparity", len(x), f"{time.time() - t0:.0f}s", float(out[::50].mean()), float(out[::50].std()))


if __name__ == "__main__":
    if "--depth" in sys.argv:
        depth(256 if "256" in sys.argv else 128)
    else:
        if not os.path.exists(f"{ROOT}/meta.npz"):
            detect()
        hold_out()
