use corio::IoContext;
use corio::op::AsyncNop;
fn main() {
    let n: u64 = std::env::args().nth(1).and_then(|a| a.parse::<u64>().ok()).unwrap_or(4_000_000);
    let depth: u64 = std::env::args().nth(2).and_then(|a| a.parse::<u64>().ok()).unwrap_or(64);
    let mode = std::env::args().nth(3).unwrap_or("corio".into());
    let t = std::time::Instant::now();
    if mode == "corio" {
        let mut ctx = IoContext::new(256).unwrap();
        ctx.run_until_done(async move {
            let ts: Vec<_> = (0..depth)
                .map(|_| {
                    corio::spawn(async move {
                        for _ in 0..n / depth {
                            AsyncNop::new().await.unwrap();
                        }
                    })
                })
                .collect();
            for t in ts {
                t.await.unwrap();
            }
        });
    } else if mode == "yield" {
        let mut ctx = IoContext::new(256).unwrap();
        ctx.run_until_done(async move {
            let ts: Vec<_> = (0..depth)
                .map(|_| {
                    corio::spawn(async move {
                        for _ in 0..n / depth {
                            corio::yield_now().await;
                        }
                    })
                })
                .collect();
            for t in ts {
                t.await.unwrap();
            }
        });
    } else if mode == "spawn" {
        let mut ctx = IoContext::new(256).unwrap();
        ctx.run_until_done(async move {
            for i in 0..n {
                assert_eq!(corio::spawn(async move { i }).await.unwrap(), i);
            }
        });
    } else {
        use io_uring::{IoUring, opcode};
        let mut ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(1024)
            .build(256)
            .unwrap();
        let mut done = 0;
        let e = opcode::Nop::new().build().user_data(8);
        for _ in 0..depth {
            unsafe { ring.submission().push(&e).unwrap() };
        }
        let mut submitted = depth;
        let (sub, mut sq, mut cq) = ring.split();
        while done < n {
            sq.sync();
            sub.submit_and_wait(1).unwrap();
            cq.sync();
            sq.sync();
            while let Some(c) = cq.next() {
                assert!(c.result() == 0);
                done += 1;
                if submitted < n {
                    let e = opcode::Nop::new().build().user_data(c.user_data());
                    unsafe { sq.push(&e).unwrap() };
                    submitted += 1;
                }
            }
        }
    }
    let ns = t.elapsed().as_nanos() as f64 / n as f64;
    println!("{mode} depth {depth}: {ns:.1} ns/op");
}
