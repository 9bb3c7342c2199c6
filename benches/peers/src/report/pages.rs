//! The generated pages: which tables they have, and what the tables' columns are.

use super::metric::Metric;

/// A generated page with the tables of some groups.
pub(super) struct Page {
    /// The file's name, without `.md`.
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) groups: &'static [Group],
}

/// The tables of the workloads of one group: one table per metric.
pub(super) struct Group {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// What the columns are.
    pub(super) text: &'static str,
    pub(super) metrics: &'static [Metric],
}

const RATIOS: &[Metric] = &[Metric::Throughput, Metric::Cpu];

const ECHO_TEXT: &str = "\
By the number of connections. Buffers of 4 KiB; corio and corio-epoll receive by `recv_stream`, into
the context's memory, corio-buffers into buffers of its own.";

const LARGE_TEXT: &str = "\
By the number of connections. corio and corio-epoll receive by `recv_stream`, up to 64 KiB at a
time, into the context's memory. corio-buffers has the same buffers as the other peers.";

pub(super) const PAGES: &[Page] = &[
    Page {
        name: "echo",
        title: "Echo over TCP",
        groups: &[
            Group {
                id: "echo-64",
                title: "Echo, messages of 64 bytes",
                text: ECHO_TEXT,
                metrics: RATIOS,
            },
            Group {
                id: "echo-64-epoll",
                title: "Echo, messages of 64 bytes, load from an epoll loop",
                text: "\
The same with another load generator. The one on a ring submits all requests that are due together;
this one receives an answer and at once sends the next request, on one connection after the other,
as `epoll_wait` returns them. The order of the peers depends on the load generator.",
                metrics: RATIOS,
            },
            Group {
                id: "echo-1k",
                title: "Echo, messages of 1 KiB",
                text: ECHO_TEXT,
                metrics: RATIOS,
            },
            Group {
                id: "echo-16k",
                title: "Echo, messages of 16 KiB through buffers of 4 KiB",
                text: LARGE_TEXT,
                metrics: RATIOS,
            },
            Group {
                id: "echo-16k-large",
                title: "Echo, messages of 16 KiB through buffers of 16 KiB",
                text: LARGE_TEXT,
                metrics: RATIOS,
            },
        ],
    },
    Page {
        name: "http",
        title: "HTTP",
        groups: &[
            Group {
                id: "http",
                title: "HTTP, a few bytes",
                text: "\
By the number of connections; the last column has the load generator on epoll. All peers parse with
`httparse` and answer with the same bytes.",
                metrics: RATIOS,
            },
            Group {
                id: "files",
                title: "HTTP, files",
                text: "\
By size; over 50, 10, 10 and 1 connections. The files are in the page cache. A peer that can send
a file uses that (corio: `send_file`; nginx and bare epoll: `sendfile(2)`); the others read and
send pieces of 64 KiB.",
                metrics: RATIOS,
            },
        ],
    },
    Page {
        name: "connections",
        title: "Connections and latency",
        groups: &[
            Group {
                id: "churn",
                title: "Connections that live for one exchange",
                text: "Connect, 64 bytes there and back, close; 50 at a time.",
                metrics: RATIOS,
            },
            Group {
                id: "idle",
                title: "Idle connections",
                text: "\
Memory of the process per connection, with a buffer of 4 KiB; corio and corio-epoll have no buffer
while nothing arrives.",
                metrics: &[Metric::Memory],
            },
            Group {
                id: "latency",
                title: "Latency at a fixed rate",
                text: "\
64-byte echoes over 50 connections, at 0.5 and 0.8 of the bare ring loop's throughput. This is an
open loop: a latency counts from when the request was due, in microseconds. Medians over the rounds;
for p99 also the range.",
                metrics: &[Metric::LatencyP99],
            },
        ],
    },
    Page {
        name: "disk",
        title: "File reads and copies",
        groups: &[Group {
            id: "disk",
            title: "Files",
            text: "\
Reads by the number in flight. tokio reads on its pool of blocking threads. For the copy an
operation is a byte.",
            metrics: RATIOS,
        }],
    },
    Page {
        name: "tasks",
        title: "Tasks, timers and threads",
        groups: &[
            Group {
                id: "tasks",
                title: "Tasks and timers",
                text: "\
Nanoseconds per task, yield or timer. Timers: tasks that each sleep for up to 100 ms; the time of
spawning, firing and joining.",
                metrics: &[Metric::Nanoseconds, Metric::CpuNanoseconds],
            },
            Group {
                id: "sleep",
                title: "How late a sleep ends",
                text: "Microseconds beyond the duration of the sleep, on average.",
                metrics: &[Metric::Late],
            },
            Group {
                id: "threads",
                title: "Between threads",
                text: "\
Numbers sent through a channel with 1024 places, and round trips of one number. monoio and compio
have no channel between threads: they use that of the `futures` crate.",
                metrics: RATIOS,
            },
        ],
    },
];

/// Looks a group up.
pub(super) fn group(id: &str) -> Option<&'static Group> {
    PAGES.iter().flat_map(|page| page.groups).find(|group| group.id == id)
}
