"""What the page of the evaluation says, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping

Both = tuple[str, str]

WORDS: Mapping[str, Both] = {
    "title": ("Evaluation", "评估"),
    "language": ("中文", "English"),
    "disclaimer": (
        "Not a medical device. For research and teaching only; not for diagnosis or treatment.",
        "非医疗器械，仅供科研与教学使用，不得用于诊断或治疗。",
    ),
    "private": (
        "This page holds pictures and names of cases: keep it as you keep the images themselves.",
        "本页含有病例图像与编号：请像保管原始图像一样保管它。",
    ),
    "made": ("Made by medrail {version} on {date}.", "由 medrail {version} 生成于 {date}。"),
    "english": ("", "图中文字与方法说明为英文。"),
    "cases": ("cases", "病例"),
    "patients": ("patients", "患者"),
    "left_out": ("left out", "未能评估"),
    "split": ("split", "划分"),
    "served": (
        "Judged was the exported network with its calibration, on the raw files: what is served is what was judged.",
        "评估对象是导出的网络及其校准，直接作用于原始文件：线上服务与此处评估完全一致。",
    ),
    "warnings": ("Read this first", "请先阅读"),
    "needed": ("How sure is this?", "结果有多可靠？"),
    "metrics": ("Metrics", "指标"),
    "metric": ("metric", "指标"),
    "value": ("value", "数值"),
    "interval": ("95 % interval", "95% 置信区间"),
    "n": ("n", "n"),
    "means": ("what it says", "含义"),
    "interval_means": (
        "The interval says how far off the value may be because other patients of the same kind could have been there. "
        "It says nothing about other scanners, sites or protocols.",
        "置信区间表示换一批同类患者时数值可能的范围，不涵盖其他设备、中心或扫描方案的差异。",
    ),
    "operating": ("Operating points", "工作点"),
    "operating_means": (
        "Each class against the rest, at the threshold chosen on the validation cases (rule: {rule}).",
        "每一类与其余各类相比，阈值由验证集选定（规则：{rule}）。",
    ),
    "no_threshold": (
        "No threshold was chosen: there were no validation cases to choose it on, or too few. 0.5 is used.",
        "没有验证病例或数量太少，未选择阈值，使用 0.5。",
    ),
    "class": ("class", "类别"),
    "threshold": ("threshold", "阈值"),
    "confusion": ("Confusion matrix", "混淆矩阵"),
    "confusion_means": (
        "Rows: the true class. Columns: the answer. Right answers are on the diagonal.",
        "行为真实类别，列为模型回答，对角线为正确。",
    ),
    "true_class": ("true class", "真实类别"),
    "roc_pr": ("ROC and precision-recall", "ROC 与精确率-召回率曲线"),
    "roc_pr_means": (
        "ROC: the further above the dotted line, the better. Precision-recall: the further to the upper right.",
        "ROC 曲线越高于虚线越好；精确率-召回率曲线越靠右上越好。",
    ),
    "calibration": ("Are the probabilities to be believed?", "概率可信吗？"),
    "calibration_means": (
        "Reliability: of the answers given with 80 %, 80 % should be right: points on the dotted line. n: the cases "
        "behind a point; few say little. Surest cases first: accuracy if only the surest are answered and the others "
        "left to a person.",
        "可靠性：置信度 80% 的回答应有 80% 正确，即点应落在虚线上；n 为该点的病例数，病例少的点说明不了什么。"
        "“最确信者优先”：只回答最确信的病例（其余交给人工）时的准确率。",
    ),
    "fitted": ("Calibration", "校准"),
    "conformal": ("Sets of possible classes (conformal)", "可能类别集合（保形预测）"),
    "conformal_means": (
        "A set of classes for each case that should hold the true one in at least {share} of the cases. Fitted on the "
        "validation cases, checked here on cases that were not used for it.",
        "为每个病例给出一组可能类别，应在至少 {share} 的病例中包含真值；由验证集拟合，在此用未参与拟合的病例检验。",
    ),
    "ood": ("Unlike the training data?", "与训练数据不同吗？"),
    "ood_means": (
        "How far a case's features lie from those of the training images. Beyond the dashed line an image is answered "
        'as "unlike the training data": about {share} of images of the training\'s own kind are, too.',
        "病例特征与训练图像特征的距离。超过虚线者会被标为“与训练数据不同”；同类图像中约 {share} 也会如此。",
    ),
    "subgroups": ("Parts of the cases", "亚组"),
    "subgroups_means": (
        "The same metric for parts of the cases. Grey: too few to read.",
        "各亚组的同一指标；灰色表示病例太少，不宜解读。",
    ),
    "too_few": ("too few to read", "太少，不宜解读"),
    "part": ("part", "亚组"),
    "per_case": ("Every case", "每个病例"),
    "per_case_means": (
        "The share of the cases that reach no more than a score: a steep rise at the right is good.",
        "得分不超过某值的病例比例；在右侧陡升为佳。",
    ),
    "worst": ("The worst cases", "最差病例"),
    "worst_means": (
        "The five worst; cases.csv has all cases in this order. Look for what they have in common.",
        "最差的五例；cases.csv 按此顺序列出全部病例。请留意它们的共同点。",
    ),
    "ranked_by_class": (
        "Worst is the case whose true class was given the lowest probability, so a sure wrong answer stands first.",
        "排序依据：真实类别得到的概率越低，病例越差；因此最确信的错误排在最前。",
    ),
    "ranked_by_labels": (
        "Worst is the case whose labels, present and absent, were on average given the lowest probability of being so.",
        "排序依据：各标签（有或无）的真实状态得到的平均概率越低，病例越差。",
    ),
    "ranked_by_dice": ("Worst is the case with the lowest Dice.", "排序依据：Dice 越低，病例越差。"),
    "two_classes": (
        "Sensitivity and positive predictive value are of {name}; specificity is the sensitivity of the other class.",
        "敏感度与阳性预测值针对 {name}；特异度即另一类别的敏感度。",
    ),
    "worth_means": (
        'Cases "worth" fewer: images of one patient are alike, so n images tell as much as that many images of as '
        "many patients would. The interval is that of so many.",
        "“worth”（相当于）：同一患者的图像彼此相似，n 张图像所含信息只相当于那么多位不同患者各一张，区间按该数量计算。",
    ),
    "worst_evidence": (
        "Orange speaks for the answer, blue against it. Exact: the map's mean, plus a constant, is the answer's logit "
        "less the mean of the others'.",
        "红色支持该回答，蓝色反对。该图是精确的：其均值加常数即该类 logit 与其余各类均值之差。",
    ),
    "worst_labels": (
        "Orange speaks for the label, blue against it. Exact: the map's mean, plus a constant, is the label's logit, "
        "whatever the other labels are.",
        "红色支持该标签，蓝色反对。该图是精确的：其均值加常数即该标签的 logit，与其余标签无关。",
    ),
    "worst_approximate": (
        "Red: what speaks for the answer, by Grad-CAM. That is an approximation: it may mislead.",
        "红色为 Grad-CAM 给出的支持该回答的区域。这只是近似，可能误导。",
    ),
    "approximate": ("approximate (Grad-CAM)", "近似（Grad-CAM）"),
    "explanation": ("Are the maps to be trusted?", "这些图可信吗？"),
    "methods": ("How the intervals were found", "区间的计算方法"),
    "failed": ("Left out", "未能评估的病例"),
    "leaks": (
        "Some of these cases were seen in training. The numbers are not what unseen patients will give.",
        "部分病例曾用于训练，以下数值不代表对未见患者的表现。",
    ),
}
