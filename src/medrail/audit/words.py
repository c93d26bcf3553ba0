"""What the page of the audit log says, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping

Both = tuple[str, str]

WORDS: Mapping[str, Both] = {
    "title": ("What the service was asked", "服务审计摘要"),
    "language": ("中文", "English"),
    "disclaimer": (
        "Not a medical device. For research and teaching only; not for diagnosis or treatment.",
        "非医疗器械，仅供科研与教学使用，不得用于诊断或治疗。",
    ),
    "made": ("Made by medrail {version} on {date}.", "由 medrail {version} 生成于 {date}。"),
    "counts": ("Requests", "请求"),
    "from_to": ("{first} to {last}, times in UTC.", "{first} 至 {last}，时间为 UTC。"),
    "nothing": ("No request in this time.", "该时段内没有请求。"),
    "read": (
        "{files} file(s), {lines} lines; {broken} that cannot be read were passed over; the service itself says that "
        "{lost} are missing.",
        "{files} 个文件，{lines} 行；跳过无法读取的 {broken} 行；服务自身记录缺失 {lost} 行。",
    ),
    "requests": ("requests", "请求数"),
    "refused": ("refused (4xx)", "被拒绝（4xx）"),
    "failed": ("failed (5xx)", "失败（5xx）"),
    "peak": ("MiB held by a process at most", "单进程内存峰值 MiB"),
    "by_day": ("By day", "按日"),
    "by_route": ("By route", "按路由"),
    "by_model": ("By model", "按模型"),
    "by_key": ("By key", "按密钥"),
    "latency": ("Times", "耗时"),
    "latency_means": (
        "Of predictions that were answered, in milliseconds: half took at most p50 (the large mark), 95 in a hundred "
        "at most p95 (the middle one), 99 at most p99 (the small one). A percentile of too few (p95: fewer than 20, "
        "p99: fewer than 100) is left out. Stages are percentiles each by itself, so they do not add up.",
        "仅统计成功的预测，单位毫秒：半数不超过 p50（大标记），95% 不超过 p95（中标记），99% 不超过 p99（小标记）。"
        "样本过少（p95 少于 20，p99 少于 100）时不给出。"
        "各阶段分别取百分位，故不可相加。",
    ),
    "stage": ("stage", "阶段"),
    "answers": ("Answers", "回答"),
    "answers_means": (
        "What was answered, not what was true. {abstained} of {n} leave it to a person, {unlike} were for images "
        "unlike the training data.",
        "此为模型的回答，并非真实情况。{n} 次中 {abstained} 次交由人工判断，{unlike} 次图像与训练数据不相似。",
    ),
    "jobs": ("Long work, by how it ended", "长任务结束状态"),
    "problems": ("Refused and failed, by kind", "按类型统计的拒绝与失败"),
}
