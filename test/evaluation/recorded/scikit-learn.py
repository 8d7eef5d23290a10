"""Reference figures for test/evaluation/metrics.test.ts, printed as JSON.

pip install scikit-learn==1.9.1 statsmodels==0.15.0 scipy
python scikit-learn.py > scikit-learn.json
"""
import json

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn import metrics
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

SAMPLES, CLASSES = 200, 7


def made(shift):
    """The same formula stands in the test."""
    i, k = np.meshgrid(np.arange(SAMPLES), np.arange(CLASSES), indexing="ij")
    labels = np.arange(SAMPLES) * 5 % CLASSES
    logits = ((i * 7919 + k * 104729 + i * k * 37 + shift) % 1009) / 200 - 2.5 + k / 997
    logits[np.arange(SAMPLES), labels] += np.where((np.arange(SAMPLES) + shift) % 3 == 0, 0, 2.5)
    return logits.astype(np.float32).astype(np.float64), labels


logits, labels = made(0)
other, _ = made(1)
probabilities = softmax(logits, axis=1)
predicted = logits.argmax(1)
right = predicted == labels
precision, recall, f1, support = metrics.precision_recall_fscore_support(labels, predicted, zero_division=0)
macro = metrics.precision_recall_fscore_support(labels, predicted, average="macro", zero_division=0)
confidence = probabilities.max(1)

ece = 0.0
edges = np.linspace(0, 1, 16)
for low, high in zip(edges[:-1], edges[1:]):
    inside = (confidence > low) & (confidence <= high)
    if inside.any():
        ece += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())

order = np.argsort(-confidence, kind="stable")
risks = np.cumsum(~right[order]) / np.arange(1, SAMPLES + 1)
other_right = other.argmax(1) == labels
table = [
    [int((right & other_right).sum()), int((right & ~other_right).sum())],
    [int((~right & other_right).sum()), int((~right & ~other_right).sum())],
]
nll = lambda t: metrics.log_loss(labels, softmax(logits / t, axis=1), labels=range(CLASSES))
fit = minimize_scalar(lambda u: nll(np.exp(u)), bounds=(-3, 3), method="bounded", options={"xatol": 1e-10})
differences = right.astype(int) - other_right.astype(int)
draws = np.random.default_rng(0).integers(0, SAMPLES, (200_000, SAMPLES))
boot = differences[draws].mean(1)

print(json.dumps({
    "top1": metrics.accuracy_score(labels, predicted),
    "top3": metrics.top_k_accuracy_score(labels, logits, k=3),
    "wilson": list(proportion_confint(int(right.sum()), SAMPLES, method="wilson")),
    "wilson3of10": list(proportion_confint(3, 10, method="wilson")),
    "precision": precision.tolist(),
    "recall": recall.tolist(),
    "f1": f1.tolist(),
    "support": support.tolist(),
    "macro": list(macro[:3]),
    "confusion": metrics.confusion_matrix(labels, predicted).tolist(),
    "logLoss": metrics.log_loss(labels, probabilities),
    "brier": metrics.brier_score_loss(labels, probabilities, labels=range(CLASSES), scale_by_half=False),
    "ece": ece,
    "aurc": risks.mean(),
    "mcnemar": {"table": table, "pValue": mcnemar(table, exact=True).pvalue},
    "temperature": float(np.exp(fit.x)),
    "logLossAtTemperature": nll(float(np.exp(fit.x))),
    "bootstrap": [float(np.quantile(boot, 0.025)), float(np.quantile(boot, 0.975))],
}, indent=2))
