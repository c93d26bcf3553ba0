"""What every metric is: its title, what it says to a person, how it is computed, and when it is not defined.

The page of the evaluation shows it, and docs/reference/metrics.md is made of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

Both = tuple[str, str]
_BCA = "BCa bootstrap by patient"
_AREA = "jackknife over the patients on the logit scale; BCa bootstrap where it hangs on one patient"
_SHARE = "Wilson's score interval, with as many trials as the patients' cases are worth"
_DISTANCE_EMPTY = "both masks empty: 0; one empty: not defined, left out and counted in the method"


@dataclass(frozen=True)
class Meaning:
    """One metric.

    title, says:
        In English and Chinese: its name, and a sentence for a person.
    definition, source:
        How it is computed, and after whom.
    interval:
        How its 95 % interval is found.
    empty:
        What it is where there is nothing to count.
    better:
        "high" or "low".
    limits:
        The least and the largest that it can be.
    """

    title: Both
    says: Both
    definition: str
    source: str = ""
    interval: str = _BCA
    empty: str = ""
    better: str = "high"
    limits: tuple[float, float] = (0, 1)


CLASSIFICATION: Mapping[str, Meaning] = {
    "auc": Meaning(
        ("AUC", "AUC"),
        (
            "How often a case of the class gets a higher probability than a case of another one. 0.5 is guessing.",
            "随机取一个阳性和一个阴性病例，阳性概率更高的可能性；0.5 等于猜测。",
        ),
        "area under the ROC curve, ties counted half; two classes: of the second one; more: the mean of one class "
        "against the rest over the classes that have cases on both sides",
        "Hanley and McNeil, Radiology 143, 1982",
        "two classes: DeLong on the logit scale, clustered by patient (Obuchowski, Biometrics 53, 1997); an area of 1: "
        f"Wilson's interval for separate pairs of patients; more classes: {_AREA}",
        "one class only: not defined",
    ),
    "auprc": Meaning(
        ("AUPRC (average precision)", "AUPRC（平均精确率）"),
        (
            "Precision averaged over all sensitivities. A useless model reaches the class's share, not 0.5.",
            "各灵敏度下精确率的平均；无用模型的值等于该类占比，而非 0.5。",
        ),
        "area under the precision-recall curve as a sum of steps, without interpolation; classes as for auc",
        "Boyd, Eng and Page, ECML PKDD 2013",
        _AREA,
        empty="no case of the class: not defined",
    ),
    "accuracy": Meaning(
        ("Accuracy", "准确率"),
        ("Share of the cases that are answered rightly.", "回答正确的病例比例。"),
        "share of the cases whose answer is the true class; the answer is as it is served: two classes by the "
        "threshold that was chosen on the validation cases, more by the most probable one",
        interval=_SHARE,
    ),
    "accuracy_most_probable": Meaning(
        ("Accuracy of the most probable class", "按最大概率的准确率"),
        (
            "Accuracy if the most probable class is named, whatever the threshold; what most papers give.",
            "不看阈值、直接取概率最大类别时的准确率，多数论文报告此值。",
        ),
        "share of the cases whose most probable class is the true one; of two classes only, where a threshold decides",
        interval=_SHARE,
    ),
    "balanced_accuracy": Meaning(
        ("Balanced accuracy", "平衡准确率"),
        ("The mean of the classes' sensitivities: rare classes count as much.", "各类灵敏度的平均，稀有类别同等重要。"),
        "mean sensitivity of the classes that occur among the true ones",
        interval="from the classes' Wilson intervals (MOVER: Zou and Donner, Statistics in Medicine 27, 2008)",
    ),
    "f1": Meaning(
        ("F1", "F1"),
        ("Balance of sensitivity and precision, mean over the classes.", "灵敏度与精确率的调和平均，按类平均。"),
        "mean over the classes that occur among the true or the named ones of 2 TP / (2 TP + FP + FN)",
    ),
    "mcc": Meaning(
        ("MCC", "MCC（马修斯相关系数）"),
        (
            "Correlation of answer and truth: 1 perfect, 0 no better than chance. Not fooled by rare classes.",
            "回答与真值的相关：1 为完美，0 等同随机；不受类别失衡误导。",
        ),
        "Matthews' correlation coefficient; several classes after Gorodkin",
        "Matthews, Biochim Biophys Acta 405, 1975; Gorodkin, Computational Biology and Chemistry 28, 2004",
        empty="one true class only: not defined; one answer only: 0",
        limits=(-1, 1),
    ),
    "sensitivity": Meaning(
        ("Sensitivity", "灵敏度"),
        ("Share of the cases of the class that are found.", "该类病例中被识别的比例。"),
        "TP / (TP + FN). Two classes: of the second one, at the chosen threshold. sensitivity/CLASS: of each class",
        interval=_SHARE,
        empty="no case of the class: not defined",
    ),
    "specificity": Meaning(
        ("Specificity", "特异度"),
        ("Share of the other cases that are not taken for the class.", "其余病例中未被误判为该类的比例。"),
        "TN / (TN + FP), as sensitivity",
        interval=_SHARE,
        empty="no other case: not defined",
    ),
    "ppv": Meaning(
        ("Positive predictive value", "阳性预测值"),
        (
            "Share of the cases called so that are so. It depends on how frequent the class is here.",
            "判为该类者中确属该类的比例；取决于该类在此处的占比。",
        ),
        "TP / (TP + FP), as sensitivity",
        interval=_SHARE,
        empty="no case taken for the class: not defined",
    ),
    "npv": Meaning(
        ("Negative predictive value", "阴性预测值"),
        (
            "Share of the cases not called so that are not so. It depends on how frequent the class is here.",
            "未判为该类者中确非该类的比例；取决于该类在此处的占比。",
        ),
        "TN / (TN + FN), as sensitivity",
        interval=_SHARE,
        empty="all cases taken for the class: not defined",
    ),
    "brier": Meaning(
        ("Brier score", "Brier 分数"),
        ("Mean squared error of the probabilities: 0 is perfect.", "概率的均方误差，0 为完美。"),
        "two classes: mean of (p - y)^2 of the second one, 0 to 1; more: mean of the sum over the classes, 0 to 2",
        "Brier, Monthly Weather Review 78, 1950",
        better="low",
        limits=(0, 2),
    ),
    "log_loss": Meaning(
        ("Log loss", "对数损失"),
        ("How surprised the probabilities are by the truth: 0 is perfect.", "概率对真值的“意外”程度，0 为完美。"),
        "mean of -ln p of the true class",
        better="low",
        limits=(0, math.inf),
    ),
    "ece": Meaning(
        ("Expected calibration error", "期望校准误差"),
        (
            "How far stated confidence and share of right answers lie apart, on average.",
            "所述置信度与实际正确率的平均差距。",
        ),
        "mean over the bins of confidence, weighted by their cases, of |mean confidence - share that is right|",
        "Guo et al., ICML 2017. Never below 0, so small sets look worse than they are",
        "jackknife over the patients; the low end is 0 where chance alone makes such errors",
        better="low",
    ),
}
SEGMENTATION: Mapping[str, Meaning] = {
    "dice": Meaning(
        ("Dice", "Dice 系数"),
        ("Overlap of mask and reference: 1 is the same, 0 is apart.", "掩膜与参考的重叠：1 为一致，0 为不相交。"),
        "2 TP / (2 TP + FP + FN) of a case's voxels",
        "Dice, Ecology 26, 1945",
        f"{_BCA}; a single volume: over its axial slices",
        "both masks empty: 1; one empty: 0",
    ),
    "iou": Meaning(
        ("IoU (Jaccard)", "交并比"),
        ("Share of mask and reference together that both have.", "两者交集占并集的比例。"),
        "TP / (TP + FP + FN) of a case's voxels",
        "Jaccard, New Phytologist 11, 1912",
        f"{_BCA}; a single volume: over its axial slices",
        "both masks empty: 1; one empty: 0",
    ),
    "hd95_mm": Meaning(
        ("HD95 (mm)", "HD95（毫米）"),
        ("How far the worst 5 % of the surfaces are apart, at least.", "表面距离的第 95 百分位。"),
        "the larger one of the two directions' 95th percentiles of the distance from a surface voxel of one mask to "
        "the nearest one of the other",
        "Huttenlocher et al., IEEE PAMI 15, 1993; percentile as in MONAI",
        empty=_DISTANCE_EMPTY,
        better="low",
        limits=(0, math.inf),
    ),
    "hd95_px": Meaning(
        ("HD95 (pixels)", "HD95（像素）"),
        ("As HD95, in pixels: the pictures have no physical size.", "同 HD95，单位为像素（图像无物理尺寸）。"),
        "as hd95_mm with a spacing of 1",
        "as hd95_mm",
        empty=_DISTANCE_EMPTY,
        better="low",
        limits=(0, math.inf),
    ),
    "nsd": Meaning(
        ("Surface Dice (NSD)", "表面 Dice（NSD）"),
        (
            "Share of the two surfaces that lies within the tolerance of the other one.",
            "两表面相距不超过容差的比例。",
        ),
        "surface of both masks within evaluate.surface_tolerance_mm (pixels, where pictures have no size) of the other "
        "one, over the surface of both",
        "Nikolov et al., J Med Internet Res 23, 2021",
        empty="both masks empty: 1; one empty: 0",
    ),
    "volume_error_ml": Meaning(
        ("Volume error (ml)", "体积误差（毫升）"),
        ("How far the volumes differ, whatever the sign.", "体积之差的绝对值。"),
        "|FP - FN| times the volume of a voxel",
        empty="both masks empty: 0",
        better="low",
        limits=(0, math.inf),
    ),
}
SEVERAL_LABELS: Mapping[str, Meaning] = {
    "auc_micro": Meaning(
        ("AUC over all labels at once", "全部标签合并的 AUC"),
        (
            "As AUC, every label of every case as one question; frequent labels count most.",
            "每个病例的每个标签各算一题的 AUC，常见标签权重更大。",
        ),
        "area under the ROC curve of all (case, label) pairs",
        "micro average: Tsoumakas, Katakis and Vlahavas, Data Mining and Knowledge Discovery Handbook, 2010",
    ),
    "auprc_micro": Meaning(
        ("AUPRC over all labels at once", "全部标签合并的 AUPRC"),
        ("As AUPRC, every label of every case as one question.", "每个病例的每个标签各算一题的 AUPRC。"),
        "average precision of all (case, label) pairs",
        "as auc_micro",
    ),
    "f1_micro": Meaning(
        ("F1 over all labels at once", "全部标签合并的 F1"),
        ("As F1, every label of every case as one question.", "每个病例的每个标签各算一题的 F1。"),
        "2 TP / (2 TP + FP + FN) of all (case, label) pairs",
        "as auc_micro",
    ),
    "subset_accuracy": Meaning(
        ("Cases with every label right", "全部标签正确的病例比例"),
        ("Share of the cases of which every label is right.", "每个标签都正确的病例比例。"),
        "share of the cases whose findings are exactly their labels",
        "as auc_micro",
        interval=f"{_BCA}; all right or all wrong: Wilson's score interval with each patient as one trial",
    ),
    "hamming_loss": Meaning(
        ("Wrong labels (Hamming loss)", "标签错误率（汉明损失）"),
        ("Share of all labels of all cases that are wrong.", "所有病例的所有标签中错误的比例。"),
        "share of the (case, label) pairs that are wrong",
        "as auc_micro",
        better="low",
    ),
}
GRADES: Mapping[str, Meaning] = {
    "quadratic_kappa": Meaning(
        ("Weighted kappa (quadratic)", "加权 Kappa（二次）"),
        (
            "Agreement on grades: 1 is perfect, 0 is chance; two grades off costs four times as much as one.",
            "分级一致性：1 为完美，0 等同随机；相差两级的代价是相差一级的四倍。",
        ),
        "1 - observed / expected squared distance of grades, with the same totals",
        "Cohen, Psychol Bull 70, 1968",
        empty="all cases and answers of one grade: not defined",
        limits=(-1, 1),
    ),
}
FURTHER: Mapping[str, Meaning] = {
    "coverage": Meaning(
        ("Coverage of the conformal sets", "保形预测集覆盖率"),
        (
            "Share of the cases whose set of possible classes holds the true one; promised: at least 1 - alpha.",
            "可能类别集合包含真值的病例比例；应不低于 1 - alpha。",
        ),
        "share of the cases whose conformal set, with the quantile fitted on the validation cases, holds the true "
        "class",
        "Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005; Sadinle, Lei and Wasserman, J "
        "Am Stat Assoc 114, 2019",
        interval=_SHARE,
    ),
    "mean_size": Meaning(
        ("Mean size of the conformal sets", "保形预测集平均大小"),
        ("How many classes a set holds on average; 1 is the best.", "集合平均包含的类别数，1 为最佳。"),
        "mean number of classes in the conformal sets",
        "as coverage",
        better="low",
        limits=(0, math.inf),
    ),
    "called_unlike": Meaning(
        ("Called unlike the training data", "被判为与训练数据不同"),
        (
            "Share of the evaluated cases that are answered with a warning. Far more than promised: other data.",
            "被警告为与训练数据不同的病例比例；远高于设定值说明数据不同。",
        ),
        "share of the cases whose out-of-distribution score is above the threshold, which is the quantile "
        "1 - evaluate.ood_alpha of the validation cases' scores",
        "Lee et al., NeurIPS 2018 (Mahalanobis distance of features)",
        _SHARE,
        better="low",
    ),
}
_MEAN_BY_CASE = "percentile bootstrap by patient; all cases alike: Wilson's score interval"
EXPLANATION: Mapping[str, Meaning] = {
    "pointing_hit_rate": Meaning(
        ("The map points into the marked region", "图指向标注区域"),
        (
            "Share of the cases in which the map is highest inside the region of interest. Compare it with chance.",
            "图的最高处落在感兴趣区域内的病例比例；请与随机水平比较。",
        ),
        "pointing game: share of the cases whose roi mask holds the place where the map is highest; not measured where "
        "the network is given the region itself (crop_roi)",
        "Zhang et al., ECCV 2016",
        _MEAN_BY_CASE,
    ),
    "pointing_by_chance": Meaning(
        ("The same by chance", "随机指向的水平"),
        ("How often a place drawn blindly would lie in the region.", "随机取一点落在该区域内的频率。"),
        "mean share of the image that the roi mask covers",
        "as pointing_hit_rate",
        _MEAN_BY_CASE,
        better="low",
    ),
    "deletion_area": Meaning(
        ("Probability without what the map shows", "去除图示区域后的概率"),
        (
            "Mean probability of the class as the most evident half of the image is replaced, step by step.",
            "逐步替换图中最显著的一半图像时该类别的平均概率。",
        ),
        "area under the probability over the share of the image that is replaced by its median, 0 to 0.5, over 0.5",
        "after Petsiuk, Das and Saenko, BMVC 2018",
        _MEAN_BY_CASE,
        better="low",
    ),
    "deletion_area_elsewhere": Meaning(
        ("The same at random places", "随机位置的同一概率"),
        ("As before, with the same map moved to random places.", "同上，但把图移到随机位置。"),
        "mean of deletion_area over 8 random moves of the map round the image's edges",
        "as deletion_area",
        _MEAN_BY_CASE,
    ),
    "deletion_gain": Meaning(
        ("Deletion gain", "删除增益"),
        (
            "How much more the answer hangs on what the map shows than on other places; above 0: it does.",
            "回答对图示区域的依赖比其他位置多多少；大于 0 说明确实依赖。",
        ),
        "deletion_area_elsewhere - deletion_area",
        "as deletion_area",
        _MEAN_BY_CASE,
    ),
}
MEANINGS: Mapping[str, Meaning] = {
    **CLASSIFICATION,
    **SEVERAL_LABELS,
    **GRADES,
    **SEGMENTATION,
    **FURTHER,
    **EXPLANATION,
}


def meaning_of(name: str) -> Meaning | None:
    """Of a metric, or of one for a class as ``dice/liver``; None for a name that is not known."""
    return MEANINGS.get(name.partition("/")[0])


def title_of(name: str) -> Both:
    """What a person calls a metric, with its class."""
    base, slash, label = name.partition("/")
    found = MEANINGS.get(base)
    english, chinese = found.title if found else (base, base)
    return (f"{english}: {label}", f"{chinese}：{label}") if slash else (english, chinese)


def limits(name: str) -> tuple[float, float]:
    """The least and the largest that a metric can be, also one of a class ("sensitivity/CLASS"); else no limits.

    >>> limits("sensitivity/ill"), limits("mcc")
    ((0, 1), (-1, 1))
    """
    meaning = MEANINGS.get(name.partition("/")[0])
    return meaning.limits if meaning else (-math.inf, math.inf)
