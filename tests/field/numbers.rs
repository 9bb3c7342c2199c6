//! Times and sizes at the ends of their ranges.

use std::time::Duration;

use corio::net::Socket;

#[test]
fn a_long_linger_time_does_not_become_a_short_one() {
    let most = i32::MAX as u64;
    for seconds in [most, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 32) + 7, u64::MAX] {
        let socket = Socket::tcp_v4().unwrap();
        socket.set_linger(Some(Duration::from_secs(seconds))).unwrap();
        let linger = socket.linger().unwrap().expect("it lingers").as_secs();
        // What the system keeps in ticks of its clock may be less than the most that it takes.
        assert!(linger >= seconds.min(most) / 1000, "{seconds} s became {linger} s");
    }
}

#[test]
fn a_large_buffer_size_does_not_become_a_small_one() {
    let socket = Socket::tcp_v4().unwrap();
    let sizes = [1 << 31, (1_u64 << 32) - 1, 1 << 32, (1 << 32) + 4096, u64::MAX];
    socket.set_recv_buffer_size(i32::MAX as usize).unwrap();
    socket.set_send_buffer_size(i32::MAX as usize).unwrap();
    let most = (socket.recv_buffer_size().unwrap(), socket.send_buffer_size().unwrap());
    for size in sizes {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let socket = Socket::tcp_v4().unwrap();
        socket.set_recv_buffer_size(size).unwrap();
        socket.set_send_buffer_size(size).unwrap();
        assert_eq!(socket.recv_buffer_size().unwrap(), most.0, "{size}");
        assert_eq!(socket.send_buffer_size().unwrap(), most.1, "{size}");
    }
}

#[test]
fn long_keepalive_times_do_not_become_short_ones() {
    let socket = Socket::tcp_v4().unwrap();
    for seconds in [1 << 32, (1 << 32) + 1, u64::MAX] {
        let time = Duration::from_secs(seconds);
        // Linux takes 32767 s at most.
        assert!(socket.set_keepalive_times(time, time, 3).is_err(), "{seconds} s");
    }
    let second = Duration::from_secs(1);
    assert!(socket.set_keepalive_times(second, second, u32::MAX).is_err());
}

every_driver! {
    fn a_time_that_no_instant_holds_never_comes(builder) {
        let mut context = builder.build().unwrap();
        context.block_on(async {
            for time in [Duration::MAX, Duration::from_secs(u64::MAX / 2)] {
                let limited = corio::timeout(time, corio::yield_now()).await;
                assert!(limited.is_ok());
                let slept = corio::race(corio::sleep(time), corio::sleep(Duration::ZERO)).await;
                assert!(slept.first().is_none(), "{time:?}");
                let operation = corio::op::AsyncNop::new().with_timeout(time).await;
                assert!(operation.is_ok());
            }
        });
    }
}
