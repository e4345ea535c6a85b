"""Expression transfer on held-out train persons: the first frame of a clip as source, driven by every 3rd frame after it; 256 px, scale 0.25.

python measure.py WEIGHTS [--clips 16] [--gate 0] [--set new|trial|all] [--sheet FILE.jpg]

Per clip Pearson correlation and slope (result on driving) of mouth opening, mouth width, eye opening by dlib's landmarks (whole pixels,
one look, as in the issue); means over the clips in which the feature moves. Frames in which dlib finds no face in either are left out.
"""
import argparse, json, os, sys, time
import numpy as np
import torch

P = argparse.ArgumentParser()
P.add_argument("weights")
P.add_argument("--clips", type=int, default=0, help="at most so many, spread over the list; 0: all")
P.add_argument("--set", default="all", choices=["new", "trial", "all"])
P.add_argument("--gate", type=float, default=None)
P.add_argument("--every", type=int, default=3)
P.add_argument("--frames", type=int, default=80, help="at most so many of a clip")
P.add_argument("--threads", type=int, default=1)
P.add_argument("--sheet", default="")
P.add_argument("--json", default="")
A = P.parse_args()
torch.set_num_threads(A.threads)
import av
from depthaware import DaGAN
from depthaware.extractors.dlib_faces import dlib_faces
from landmarks import FACES, ROOT, clips, measures

NAMES, LEAST = ("mouth", "width", "eyes"), (0.03, 0.03, 0.05)
faces = dlib_faces()


def landmarks(image):
    face = faces.find(np.ascontiguousarray(image))
    return np.full((68, 2), np.nan) if face is None else np.array([(p.x, p.y) for p in face.parts()], float)


def load(name):
    """Frames 0, 3, 6 ... (n, 256, 256, 3) and their landmarks, kept on disk."""
    path = f"{ROOT}/measure/{name}_{A.every}_{A.frames}.npz"
    if not os.path.exists(path):
        x = [f.to_ndarray(format="rgb24") for k, f in enumerate(av.open(f"{FACES}/train/clips/{name}.mp4").decode(video=0)) if k % A.every == 0][: A.frames + 1]
        os.makedirs(os.path.dirname(path), exist_ok=True)
        np.savez(path + ".tmp.npz", x=np.stack(x), l=np.stack([landmarks(a) for a in x]))
        os.replace(path + ".tmp.npz", path)
    z = np.load(path)
    return z["x"], z["l"]


def main():
    t0 = time.time()
    model = DaGAN.from_pretrained(A.weights)
    if A.gate is not None:
        with torch.no_grad():
            model.generator.attention.gate.fill_(A.gate)
    held = json.load(open(f"{ROOT}/heldout.json"))[A.set]
    names = [r["name"] for r in clips() if r["identity"] in held]
    if A.clips:
        names = [names[i] for i in np.unique(np.linspace(0, len(names) - 1, A.clips).round().astype(int))]
    rows, sheet = [], []
    for name in names:
        x, l = load(name)
        d, out = x[1:], []
        with torch.inference_mode():
            t = lambda a: torch.from_numpy(a).permute(0, 3, 1, 2).float() / 255
            source = model.encode_source(t(x[:1]))
            for i in range(0, len(d), 8):
                y = model.drive(source, model.detect_keypoints(t(d[i : i + 8])))
                out.append((y.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy())
        out = np.concatenate(out)
        r = np.stack([landmarks(a) for a in out])
        ok = ~(np.isnan(l[1:]).any((1, 2)) | np.isnan(r).any((1, 2)))
        row = {"name": name, "frames": len(d), "found": float(ok.mean()), "l1": float(np.abs(out.astype(float) - d).mean() / 255), "copy": float(np.abs(x[:1].astype(float) - d).mean() / 255)}
        if ok.sum() >= 8:
            a, b = measures(l[1:][ok]), measures(r[ok])
            row["akd"] = float(np.linalg.norm(l[1:][ok] - r[ok], axis=-1).mean())
            for i, n in enumerate(NAMES):
                if a[:, i].std() >= LEAST[i]:
                    u, v = a[:, i] - a[:, i].mean(), b[:, i] - b[:, i].mean()
                    row[n] = float((u * v).sum() / np.sqrt((u**2).sum() * (v**2).sum() + 1e-12)), float((u * v).sum() / (u**2).sum())
        rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
        if A.sheet and "mouth" in row and len(sheet) < 14:
            pick = np.linspace(0, len(d) - 1, 6).round().astype(int)
            order = np.argsort(np.nan_to_num(measures(l[1:])[:, 0]))
            pick = order[np.linspace(0, len(order) - 1, 6).round().astype(int)]
            sheet.append(np.concatenate([np.concatenate([x[0], *d[pick]], 1), np.concatenate([x[0], *out[pick]], 1)], 0))
    res = {"weights": A.weights, "gate": A.gate, "set": A.set, "clips": len(rows), "persons": len(held)}
    res["below_copying"] = round(100 * (1 - np.mean([r["l1"] for r in rows]) / np.mean([r["copy"] for r in rows])), 2)
    res["l1"] = round(float(np.mean([r["l1"] for r in rows])), 5)
    res["akd"] = round(float(np.mean([r["akd"] for r in rows if "akd" in r])), 3)
    for n in NAMES:
        v = np.array([r[n] for r in rows if n in r])
        res[n] = {"clips": len(v), "r": round(float(v[:, 0].mean()), 3), "slope": round(float(v[:, 1].mean()), 3)} if len(v) else None
    res["seconds"] = round(time.time() - t0)
    print(json.dumps(res))
    if A.json:
        json.dump({"result": res, "clips": rows}, open(A.json, "w"), indent=1)
    if A.sheet and sheet:
        from PIL import Image

        Image.fromarray(np.concatenate(sheet)).resize((7 * 128, len(sheet) * 256)).save(A.sheet, quality=88)


if __name__ == "__main__":
    main()
