"""What the page of a load test says, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping

Both = tuple[str, str]

WORDS: Mapping[str, Both] = {
    "title": ("Load test", "负载测试"),
    "language": ("中文", "English"),
    "disclaimer": (
        "Not a medical device. For research and teaching only; not for diagnosis or treatment.",
        "非医疗器械，仅供科研与教学使用，不得用于诊断或治疗。",
    ),
    "made": ("Made by medrail {version} on {date}.", "由 medrail {version} 生成于 {date}。"),
    "english": ("", "句子与图中文字为英文。"),
    "answer": ("The answer", "结论"),
    "no_capacity": ("This scenario asks for no capacity.", "该场景不计算容量。"),
    "ended": ("It ended before its time: {why}.", "测试提前结束：{why}。"),
    "most": ("most requests/s", "最高 请求/秒"),
    "requests": ("requests", "请求数"),
    "errors": ("errors", "错误"),
    "steps": ("Steps", "各步结果"),
    "steps_means": (
        "Requests planned in the first {warmup:g} s of each step are not counted. Latencies: of right answers, and of "
        "those given up after {timeout:g} s. A ? is a bound that so few requests do not tell.",
        "每步前 {warmup:g} 秒内计划的请求不计入。延迟取自正确回答及 {timeout:g} 秒后放弃的请求；"
        "? 表示请求过少，无法给出界限。",
    ),
    "load": ("load", "负载"),
    "n": ("n", "n"),
    "rps": ("requests/s [95 %]", "请求/秒 [95%]"),
    "p50": ("p50, ms [95 %]", "p50 毫秒 [95%]"),
    "p95": ("p95, ms [95 %]", "p95 毫秒 [95%]"),
    "p99": ("p99, ms [95 %]", "p99 毫秒 [95%]"),
    "cores": ("server, cores", "服务器 核"),
    "memory": ("server, MB", "服务器 MB"),
    "client": ("sender, cores", "发送端 核"),
    "closed": ("Users who wait for their answer (closed loop)", "等待回答的用户（闭环）"),
    "closed_means": (
        "Each user sends, waits for the answer, and sends again. A slow service slows its users down, so this never "
        "piles up more than there are users.",
        "每个用户发送、等待回答、再发送。服务变慢时用户也随之变慢，因此排队数不会超过用户数。",
    ),
    "open": ("Arrivals that wait for nobody (open loop)", "不等待的到达（开环）"),
    "open_means": (
        "Requests arrive as a Poisson process, whether earlier ones are answered or not. Latency counts from the time "
        "at which a request was planned to be sent.",
        "请求按泊松过程到达，不论先前的是否已回答。延迟从计划发送的时刻算起。",
    ),
    "server": ("The server's processor and memory", "服务器的处理器与内存"),
    "server_means": (
        "From {how}. The marks on the line of time are the begins of the steps, in the table's order.",
        "来源：{how}。时间轴上的竖线为各步的开始，顺序同表。",
    ),
    "kinds": ("By kind of request", "按请求类型"),
    "kind": ("kind", "类型"),
    "wrong": ("Errors", "错误"),
    "count": ("count", "次数"),
    "error": ("error", "错误"),
    "none": ("None.", "无。"),
    "notes": ("To know when reading this", "阅读须知"),
    "methods": ("How it was measured", "测量方法"),
}

METHODS = (
    "Percentiles: intervals of order statistics with binomial ranks. Requests in one queue are slow together, so the "
    "ranks are those of as many independent requests as these are worth, judged by batches of neighbours.",
    "Requests a second: right answers that were finished within the step after its warm-up; the interval is a "
    "bootstrap over seconds (over twentieths of short steps).",
    "Served means: the whole interval of p95 lies below the limit, and the share of errors is no larger than allowed, "
    "in this and in every smaller step.",
)
