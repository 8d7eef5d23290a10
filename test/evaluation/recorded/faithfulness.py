"""Reference figures for test/evaluation/faithfulness.test.ts, printed as JSON.

pip install scipy
python faithfulness.py > faithfulness.json
"""
import json

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import lil_matrix
from scipy.sparse.linalg import spsolve
from scipy.stats import spearmanr

HEIGHT, WIDTH, CHANNELS = 9, 11, 2
y, x, c = np.meshgrid(np.arange(HEIGHT), np.arange(WIDTH), np.arange(CHANNELS), indexing="ij")
# The same formulas stand in the test.
picture = (((y * 31 + x * 17 + c * 7) % 23) / 10 - 1).astype(np.float32).astype(np.float64)
rows, columns = np.meshgrid(np.arange(HEIGHT), np.arange(WIDTH), indexing="ij")
removed = (rows * 7 + columns * 5) % 11 < 7

# Every removed pixel is the weighted mean of its neighbours in the picture.
place = {tuple(p): i for i, p in enumerate(np.argwhere(removed))}
matrix = lil_matrix((len(place), len(place)))
right = np.zeros((len(place), CHANNELS))
for (row, column), i in place.items():
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            r, k = row + dy, column + dx
            if (dy, dx) == (0, 0) or not (0 <= r < HEIGHT and 0 <= k < WIDTH):
                continue
            weight = 1 / 6 if dy == 0 or dx == 0 else 1 / 12
            matrix[i, i] += weight
            if (r, k) in place:
                matrix[i, place[r, k]] -= weight
            else:
                right[i] += weight * picture[r, k]
solution = np.stack([spsolve(matrix.tocsc(), right[:, k]) for k in range(CHANNELS)], axis=1)
filled = picture.copy()
for (row, column), i in place.items():
    filled[row, column] = solution[i]

sigma = 0.9
blurred = picture
for axis in (1, 0):
    blurred = gaussian_filter1d(blurred, sigma, axis=axis, mode="nearest", radius=2)

a = (np.arange(40) * 37 % 41 % 13).astype(float)
b = (np.arange(40) * 29 % 43 % 7).astype(float)
print(
    json.dumps(
        {
            "filled": [round(v, 7) for v in filled.ravel().tolist()],
            "blurred": [round(v, 7) for v in blurred.ravel().tolist()],
            "spearman": spearmanr(a, b).statistic,
        }
    )
)
