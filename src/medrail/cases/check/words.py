"""What the page of the check says, in English and Chinese; and what each kind of finding is called."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

Both = tuple[str, str]

WORDS: Mapping[str, Both] = {
    "title": ("Check of the data", "数据检查"),
    "disclaimer": (
        "Not a medical device. For research and teaching only; not for diagnosis or treatment.",
        "非医疗器械，仅供科研与教学使用，不得用于诊断或治疗。",
    ),
    "private": (
        "This page holds pictures of patients and your file names: keep it as you keep the images themselves.",
        "本页含有患者图像和文件名：请像保管原始图像一样保管它。",
    ),
    "ok": ("ok", "通过"),
    "warn": ("look", "请核对"),
    "stop": ("stop", "停止"),
    "ok_means": ("Nothing was found that speaks against training on these data.", "未发现不宜用于训练的问题。"),
    "warn_means": (
        "Results can be right, but somebody should look at what is listed below.",
        "结果可能正确，但应有人核对下列问题。",
    ),
    "stop_means": (
        "What is listed below would make a result wrong, or leave none. Mend it before training.",
        "下列问题会使结果错误或无法得到结果，请在训练前修正。",
    ),
    "cases": ("cases", "病例"),
    "usable": ("usable", "可用"),
    "patients": ("patients", "患者"),
    "stops": ("findings that stop", "须停止的问题"),
    "warnings": ("findings to look at", "需核对的问题"),
    "findings": ("What was found", "发现的问题"),
    "nothing": ("Nothing.", "无。"),
    "counts": ("Counts", "数量"),
    "split": ("split", "划分"),
    "none": ("none", "无"),
    "per_split": ("Cases in each split, by class", "各划分的病例数（按类别）"),
    "labels_of_cases": (
        "{none} of {cases} cases have none of the labels, {several} have several.",
        "{cases} 个病例中 {none} 个无任何标签，{several} 个有多个标签。",
    ),
    "together": ("Labels that occur together", "同时出现的标签"),
    "scanners": ("Scanners", "扫描设备"),
    "centres": ("Centres", "中心"),
    "modalities": ("Modalities", "成像方式"),
    "of_patients": ("Images of a patient", "每位患者的图像数"),
    "shape": ("Sizes, spacings, intensities", "尺寸、间距与灰度"),
    "outliers": ("Far from the others", "离群值"),
    "sheet": ("What they look like", "图像一览"),
    "sheet_of": ("{shown} of {all} are shown, drawn evenly.", "显示 {all} 中的 {shown} 幅，均匀抽取。"),
    "no_picture": ("no picture", "无图像"),
    "more": ("and {n} more of this kind; check.json lists all.", "另有 {n} 项同类问题，全部列于 check.json。"),
    "full": (
        "The page is kept below 5 MB: further pictures are left out.",
        "页面大小限制在 5 MB 以内，其余图像已省略。",
    ),
    "below": ("Files are called by their path below", "文件名均为相对路径，位于"),
    "remedy": ("What to do", "处理办法"),
    "english": ("", "以下细节为英文。"),
    "filter": ("Show only what contains", "筛选文件名"),
    "made": ("Made by medrail {version} on {date}.", "由 medrail {version} 生成于 {date}。"),
    "pattern": ("File names may say who the patients are", "文件名可能含有患者信息"),
    "language": ("中文", "English"),
    "median": ("median", "中位数"),
}

MEASURES: Mapping[str, Both] = {
    "width": ("width", "宽度"),
    "height": ("height", "高度"),
    "depth": ("depth", "层数"),
    "channels": ("channels", "通道数"),
    "width_mm": ("pixel width", "像素宽度"),
    "height_mm": ("pixel height", "像素高度"),
    "depth_mm": ("distance of slices", "层间距"),
    "low end": ("0.5th percentile", "第 0.5 百分位数"),
    "high end": ("99.5th percentile", "第 99.5 百分位数"),
}

DEFECTS: Mapping[str, Both] = {
    "patient_leak": ("One patient in several splits", "同一患者出现在多个划分中"),
    "exact_leak": ("The same image in several splits", "相同图像出现在多个划分中"),
    "near_leak": ("Nearly the same image in several splits", "近似图像出现在多个划分中"),
    "perhaps_near_leak": ("Perhaps the same image in several splits", "疑似相同图像出现在多个划分中"),
    "duplicate": ("The same image twice", "重复图像"),
    "near_duplicate": ("Nearly the same image twice", "近似重复图像"),
    "contradicting_labels": ("One image with different labels", "同一图像标签矛盾"),
    "unusable_cases": ("Cases that cannot be used", "无法使用的病例"),
    "unreadable": ("Cannot be read", "无法读取"),
    "missing_file": ("Missing file", "文件缺失"),
    "too_much_memory": ("Needs too much memory", "所需内存过多"),
    "not_finite": ("Values that are no numbers", "含有非数值"),
    "blank": ("Blank image", "空白图像"),
    "nearly_blank": ("Nearly blank image", "近乎空白的图像"),
    "unlike_the_rest": ("Unlike the other images", "与其他图像不同"),
    "empty_mask": ("Mask without foreground", "掩膜无前景"),
    "mask_grid": ("Mask on another grid", "掩膜与图像网格不一致"),
    "mask_values": ("Mask with unknown values", "掩膜含有未知取值"),
    "unreadable_mask": ("Mask cannot be read", "掩膜无法读取"),
    "missing_mask": ("Missing mask", "掩膜缺失"),
    "missing_roi": ("Missing region of interest", "缺少感兴趣区域"),
    "image_without_mask": ("Image without mask", "图像没有掩膜"),
    "mask_without_image": ("Mask without image", "掩膜没有图像"),
    "image_without_class": ("Image without class", "图像没有类别"),
    "label_without_image": ("Label without image", "标签没有图像"),
    "unlabelled": ("Without label", "没有标签"),
    "unknown_class": ("Unknown class", "未知类别"),
    "bad_label": ("Label that is neither 0 nor 1", "标签值既不是 0 也不是 1"),
    "uncertain_label": ("Uncertain label", "标签不确定"),
    "blank_label": ("Blank label", "标签为空"),
    "rare_label": ("Label of few patients", "患者过少的标签"),
    "class_missing": ("Class missing in a split", "划分中缺少类别"),
    "empty_split": ("Empty split", "划分为空"),
    "no_split": ("Without split", "未指定划分"),
    "bad_split": ("Unknown split", "未知划分"),
    "bad_id": ("Bad id", "编号有误"),
    "bad_row": ("Bad row", "表格行有误"),
    "repeated_row": ("Row twice", "表格行重复"),
    "bad_name": ("File name that is no text", "文件名不是有效文本"),
    "ignored_file": ("File that was left out", "被忽略的文件"),
    "no_image": ("No image in a folder", "文件夹中没有图像"),
    "several_series": ("Several series, one target", "多个序列对应一个目标"),
    "patient_unknown": ("Patients not known", "患者未知"),
    "centre_unknown": ("Centre not known", "中心未知"),
    "burned_in_text": ("Text burned into the pixels", "像素中可能有文字"),
    "missing_slices": ("Missing slices", "层面缺失"),
    "duplicate_slices": ("Duplicate slices", "层面重复"),
    "uneven_spacing": ("Uneven slice spacing", "层间距不均"),
    "gantry_tilt": ("Gantry tilt", "机架倾斜"),
    "shifted_slices": ("Shifted slices", "层面错位"),
    "mixed_orientation": ("Several orientations in one series", "序列内方向不一"),
    "mixed_size": ("Several sizes in one series", "序列内尺寸不一"),
    "localiser_in_series": ("Localiser inside a series", "序列中混有定位像"),
    "truncated_pixel_data": ("Truncated pixel data", "像素数据不完整"),
    "undecodable_pixel_data": ("Pixels that cannot be decoded", "像素无法解码"),
    "unplaced_frames": ("Frames without place", "帧缺少空间位置"),
    "mixed_patients": ("Several patients or studies in one series", "序列中混有多位患者或多次检查"),
    "mixed_image_type": ("Several kinds of slices in one volume", "体数据中混有多种类型的层面"),
    "mixed_frame": ("Several frames of reference in one volume", "体数据中有多个坐标参考系"),
    "mixed_values": ("Values of several meanings in one volume", "体数据中像素值含义不一"),
    "mixed_reconstruction": ("Several reconstructions in one series", "序列中混有多种重建"),
    "phases_by_time_only": ("Phases that only times tell apart", "仅凭时间区分的时相"),
    "sparse_slices": ("Sparse slices", "层面稀疏"),
    "unordered_time_points": ("Time points without order", "时间点无法排序"),
    "incomplete_time_point": ("Incomplete time point", "时间点不完整"),
    "localiser_left_out": ("Localiser left out", "定位像已排除"),
    "stray_slices_left_out": ("Single slice beside a volume", "体数据旁的单张层面"),
    "unreadable_file": ("File that cannot be read", "文件无法读取"),
    "patient_joined": ("Patients joined by their headers", "按文件头合并的患者"),
    "several_patients": ("Several patients called one", "一个患者名下有多位患者"),
    "one_patient_in_headers": ("One patient in all headers", "所有文件头均为同一患者"),
    "perhaps_one_patient": ("Perhaps one patient", "可能是同一患者"),
    "several_issuers": ("One patient number, several issuers", "同一患者编号，多个发放机构"),
    "bad_um_per_px": ("Bad pixel size of a slide", "切片像素尺寸有误"),
    "several_masks": ("Several masks of one image", "同一图像有多个掩膜"),
    "bad_annotation": ("Bad annotation", "标注有误"),
    "bad_fold": ("Bad fold", "折号有误"),
    "no_tissue": ("No tissue", "没有组织"),
    "not_taken": ("Not taken as part of the data", "未纳入数据集的文件"),
    "not_an_image": ("DICOM object that is no image", "非图像的 DICOM 对象"),
    "unreadable_header": ("Header that cannot be read", "文件头无法读取"),
}


def measured(name: str) -> Both:
    """What a number of ``Summary`` is called: "depth_mm", or "HU, low end", of which the unit stays as it is."""
    unit, comma, end = name.rpartition(", ")
    english, chinese = MEASURES.get(end, (end, end))
    return (f"{unit}: {english}", f"{unit}：{chinese}") if comma else (english, chinese)


def in_both(texts: Both) -> str:
    """HTML of which the page shows one language; markup in the texts is escaped."""
    english, chinese = map(escape, texts)
    return f'<span class="en" lang="en">{english}</span><span class="zh" lang="zh-CN">{chinese}</span>'


def called(defect: str) -> Both:
    """The title of a kind of finding; one that is not in the table is called by its own name."""
    plain = defect.replace("_", " ")
    return DEFECTS.get(defect, (plain[:1].upper() + plain[1:], plain))
