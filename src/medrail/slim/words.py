"""What the page of slimming says, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping

Both = tuple[str, str]

WORDS: Mapping[str, Both] = {
    "title": ("Slimming", "模型瘦身"),
    "language": ("中文", "English"),
    "disclaimer": (
        "Not a medical device. For research and teaching only; not for diagnosis or treatment.",
        "非医疗器械，仅供科研与教学使用，不得用于诊断或治疗。",
    ),
    "made": ("Made by medrail {version} on {date}.", "由 medrail {version} 生成于 {date}。"),
    "answer": ("The answer", "结论"),
    "english": ("", "句子、表格内容与图中文字为英文。"),
    "changed": ("The slimmed run is {run}.", "瘦身后的运行为 {run}。"),
    "unchanged": ("Nothing was changed.", "未作任何更改。"),
    "picture": ("Speed against accuracy", "速度与精度"),
    "picture_means": (
        "Left is faster. Height is the difference to the run as it was evaluated, with its 90 % interval. A candidate "
        "is non-inferior if its whole interval lies above the margin. The grey line joins those that nothing beats in "
        "both. Where no answer changed, nothing is known of what a change would cost, and no interval is drawn.",
        "越靠左越快。纵轴为与评估时模型的差值及其 90% 区间；整个区间在界值之上者为非劣效。"
        "灰线连接在速度与精度上均不被超越者。若无任何回答改变，则无从估计改变的代价，故不画区间。",
    ),
    "table": ("All candidates", "全部候选"),
    "table_means": (
        "On {n} validation cases of {patients} patients. Times are of whole answers on this machine: read, prepare, "
        "model, post-processing; everyone in turns, each in a process of its own. File: the network alone. Unbeaten "
        "(*): nothing else is as good in time, rate, file, memory and value, and better in one of them.",
        "在 {patients} 名患者的 {n} 个验证病例上。时间为本机完整回答的耗时（读取、预处理、模型、后处理），"
        "各候选轮流、各在独立进程中计时。文件大小仅指网络。"
        "未被超越（*）：没有其他候选在耗时、速率、文件、内存与指标上都不逊于它且至少一项更优。",
    ),
    "confirmed": ("The test cases", "测试病例"),
    "confirmed_means": (
        "Choosing the fastest of many that passed is a look at the best luck of many. So the chosen one was asked of "
        "cases that had no part in the choice, once. These have now been asked {looks} time(s) for this run.",
        "从多个通过者中选最快的，难免含有运气成分。因此被选者再用未参与选择的测试病例检验一次。"
        "该运行的测试病例至今已被使用 {looks} 次。",
    ),
    "unseen": (
        "What no test of so few can show: failures that hit fewer than {share} of such patients may not have been "
        "among them.",
        "病例数所限，任何检验都无法排除：发生率低于 {share} 的失败可能未出现在这些患者中。",
    ),
    "notes": ("Left out", "未纳入"),
    "methods": ("How it was judged", "判定方法"),
    "candidate": ("candidate", "候选"),
    "ms": ("ms a case", "毫秒/例"),
    "faster": ("faster [95 %]", "加速比 [95%]"),
    "network": ("network alone", "仅网络"),
    "rate": ("cases/s", "例/秒"),
    "file": ("file, MB", "文件 MB"),
    "memory": ("memory, MB", "内存 MB"),
    "value": ("value", "数值"),
    "difference": ("difference [90 %]", "差值 [90%]"),
    "unbeaten": ("unbeaten", "未被超越"),
    "verdict": ("verdict", "判定"),
    "is_base": ("what the others are held against", "比较基准"),
    "is_eager": ("the base's weights, for comparison", "基准权重，供比较"),
    "is_unstructured": ("for comparison only", "仅供比较"),
    "accepted": ("accepted", "接受"),
    "chosen": ("chosen", "选中"),
}
