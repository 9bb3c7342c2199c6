//! Every kind of buffer, written and read into.

use std::rc::Rc;
use std::sync::Arc;

use corio::buf::{IoBuf, IoBufMut, IoBufs, IoBufsMut, Shared};
use corio::fs::File;
use corio::op::AsyncRecv;

use crate::harness::{Outcome, assert_errno, errno, file_with, local_pair, noise};

every_driver! {
    every_kind_of_buffer_can_be_written,
    a_vec_is_filled_to_its_capacity,
    fixed_buffers_keep_their_length,
    a_read_into_a_slice_fills_the_slice_only,
    slices_can_be_sliced_again,
    a_slice_may_end_at_the_last_index,
    writes_of_nothing_transfer_nothing,
    a_buffer_without_room_is_not_the_end,
    a_receive_that_appends_grows_its_buffer,
    an_error_gives_every_buffer_back,
    shared_buffers_are_freed_once,
    collections_know_their_size;
    cases:
    slices_out_of_bounds_panic,
}

async fn every_kind_of_buffer_can_be_written() -> Outcome {
    let (a, b) = local_pair()?;
    macro_rules! check {
        ($($buf:expr),+ $(,)?) => {$(
            let (result, _buf) = a.send($buf).await;
            assert_eq!(result?, 3);
            a.send_all($buf).await.0?;
            a.send_msg([$buf]).await.0?;
            assert_eq!(b.recv_exact([0; 9]).await.1, *b"abcabcabc", stringify!($buf));
            let file = File::from(tempfile::tempfile()?);
            file.write_at($buf, 0).await.0?;
            file.write_all_at($buf, 3).await.0?;
            file.writev_at(vec![$buf], 6).await.0?;
            assert_eq!(file.read_at([0; 9], 0).await.1, *b"abcabcabc", stringify!($buf));
        )+};
    }
    check! {
        b"abc".to_vec(),
        b"abc".to_vec().into_boxed_slice(),
        *b"abc",
        b"abc",
        &b"abc"[..],
        "abc",
        String::from("abc"),
        Arc::<[u8]>::from(&b"abc"[..]),
        Rc::<[u8]>::from(&b"abc"[..]),
        Shared::new(bytes::Bytes::from_static(b"abc")),
        Shared::new(*b"abc"),
        b"<abc>".to_vec().slice(1..4),
        "abcdef".slice(..3),
        Shared::new(bytes::Bytes::from_static(b"...abc")).slice(3..),
    }
    Ok(())
}

async fn a_vec_is_filled_to_its_capacity() -> Outcome {
    let (a, b) = local_pair()?;
    a.send("0123456789").await.0?;
    // The length that it had before does not matter.
    for mut buf in [Vec::with_capacity(4), vec![9; 4]] {
        buf.shrink_to(4);
        assert_eq!(buf.capacity(), 4);
        let start = buf.as_ptr();
        let (result, buf) = b.recv(buf).await;
        assert_eq!((result?, buf.len(), buf.as_ptr()), (4, 4, start));
    }
    let (result, buf) = b.recv(vec![9; 64]).await;
    assert_eq!((result?, &buf[..]), (2, &b"89"[..]));
    a.close().await?;
    let (result, buf) = b.recv(vec![9; 64]).await;
    assert_eq!((result?, buf.len()), (0, 0), "the end of the stream leaves nothing");
    Ok(())
}

async fn fixed_buffers_keep_their_length() -> Outcome {
    let (a, b) = local_pair()?;
    a.send("0123").await.0?;
    let (result, buf) = b.recv([9; 3]).await;
    assert_eq!((result?, buf), (3, *b"012"));
    let (result, buf) = b.recv(vec![9; 3].into_boxed_slice()).await;
    assert_eq!((result?, &buf[..]), (1, &b"3\x09\x09"[..]));
    // A large array lives in the operation like a small one.
    a.send([7; 4_000]).await.0?;
    let (result, buf) = b.recv_exact([0; 4_000]).await;
    assert_eq!((result?, buf), ((), [7; 4_000]));
    Ok(())
}

async fn a_read_into_a_slice_fills_the_slice_only() -> Outcome {
    let contents = noise(1000);
    let file = File::from(file_with(&contents)?);
    let mut buf = Vec::with_capacity(1000);
    while buf.len() < 1000 {
        let (begin, end) = (buf.len(), buf.len() + 77);
        let (result, part) = file.read_at(buf.slice(begin..end), begin as u64).await;
        let len = result?;
        assert_eq!((part.len(), part.begin(), len), (len, begin, 77.min(1000 - begin)));
        buf = part.into_inner();
    }
    assert_eq!(buf, contents);
    // A part in the middle leaves the bytes before and after it unchanged.
    let (result, part) = file.read_at(vec![7; 6].slice(2..4), 0).await;
    assert_eq!(result?, 2);
    assert_eq!(part.into_inner(), [7, 7, contents[0], contents[1], 7, 7]);
    // So does a part of an array.
    let (result, part) = file.read_at([9; 6].slice(2..4), 0).await;
    assert_eq!(result?, 2);
    assert_eq!(part.into_inner(), [9, 9, contents[0], contents[1], 9, 9]);
    Ok(())
}

async fn slices_can_be_sliced_again() -> Outcome {
    let (a, b) = local_pair()?;
    a.send("<<abc>>".slice(1..6).slice(1..4)).await.0?;
    let (result, part) = b.recv(vec![0; 9].slice(2..8).slice(1..)).await;
    assert_eq!((result?, &part[..3]), (3, &b"abc"[..]));
    assert_eq!(part.into_inner().into_inner(), b"\0\0\0abc\0\0\0");
    Ok(())
}

async fn a_slice_may_end_at_the_last_index() -> Outcome {
    let (a, b) = local_pair()?;
    a.send("0123".slice(2..=usize::MAX)).await.0?;
    a.send("0123".slice(..=0)).await.0?;
    a.send("0123".slice((std::ops::Bound::Excluded(2), std::ops::Bound::Unbounded))).await.0?;
    a.send("0123".slice(1..100)).await.0?;
    assert_eq!(b.recv(vec![0; 64]).await.1, b"2303123");
    Ok(())
}

async fn writes_of_nothing_transfer_nothing() -> Outcome {
    let (a, b) = local_pair()?;
    let file = File::from(file_with(b"contents")?);
    assert_eq!(file.write_at("", 0).await.0?, 0);
    assert_eq!(file.writev_at(["", ""], 0).await.0?, 0);
    file.write_all_at("", 0).await.0?;
    assert_eq!(a.send(Vec::new()).await.0?, 0);
    a.send_all("").await.0?;
    assert_eq!(a.send_msg(["", ""]).await.0?, 0);
    a.send("x").await.0?;
    assert_eq!(b.recv([0; 2]).await.0?, 1);
    assert_eq!(file.metadata().await?.len(), 8);
    Ok(())
}

/// A result of 0 bytes would look like the end.
async fn a_buffer_without_room_is_not_the_end() -> Outcome {
    fn refused<T: std::fmt::Debug, B>((result, _buf): (std::io::Result<T>, B)) {
        let error = result.expect_err("an error");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("no room"), "{error}");
    }
    let (a, b) = local_pair()?;
    let file = File::from(file_with(b"contents")?);
    refused(file.read_at(Vec::new(), 0).await);
    refused(file.read_at([], 0).await);
    refused(file.read_at([], 100).await);
    refused(file.readv_at(Vec::<Vec<u8>>::new(), 0).await);
    refused(file.readv_at([Vec::new(), Vec::new()], 0).await);
    refused(corio::op::AsyncRead::at_position(&file, Vec::new()).await);
    // Also while there is nothing to receive.
    refused(b.recv(Vec::new()).await);
    a.send("x").await.0?;
    refused(b.recv(Vec::new()).await);
    refused(b.recv([1_u8; 4].slice(2..2)).await);
    let mut full = Vec::with_capacity(3);
    full.resize(full.capacity(), 7);
    let end = full.len();
    refused(b.recv(full.slice(end..)).await);
    refused(b.recv_msg([[0_u8; 0]; 0]).await);
    refused(b.recv_msg([Vec::new(), Vec::new()]).await);
    let udp = corio::net::UdpSocket::bind("127.0.0.1:0")?;
    refused(udp.recv_from(Vec::new()).await);
    refused(udp.recv(Vec::new()).await);
    // These have moved all that they were to move.
    b.recv_exact([]).await.0?;
    file.read_exact_at(Vec::new(), 100).await.0?;
    assert_eq!(b.recv([0; 1]).await.1, *b"x", "nothing was taken");
    Ok(())
}

async fn a_receive_that_appends_grows_its_buffer() -> Outcome {
    let (a, b) = local_pair()?;
    let contents = noise(100_000);
    let expected = contents.clone();
    let sending = corio::spawn(async move {
        a.send_all(contents).await.0?;
        a.close().await
    });
    let (mut buf, mut allocations) = (b"head ".to_vec(), 0);
    loop {
        let (room, before) = (buf.capacity() - buf.len(), buf.len());
        let (result, filled) = b.recv_append(buf).await;
        buf = filled;
        let len = result?;
        assert_eq!(buf.len(), before + len);
        allocations += u32::from(room == 0);
        if len == 0 {
            break;
        }
    }
    assert_eq!(&buf[..5], b"head ");
    assert!(buf[5..] == expected);
    assert!(allocations < 20, "{allocations} allocations");
    sending.await.unwrap()?;
    // An error leaves the bytes that were there.
    let (result, buf) = b.recv_append(buf).with_timeout(std::time::Duration::ZERO).await;
    assert!(result.is_err() || result? == 0);
    assert!(buf[5..] == expected);
    Ok(())
}

async fn an_error_gives_every_buffer_back() -> Outcome {
    let file = File::from(std::fs::File::open("Cargo.toml")?);
    macro_rules! check {
        ($($buf:expr),+ $(,)?) => {$(
            let (result, buf) = file.write_at($buf, 0).await;
            assert_errno(result, errno::EBADF);
            assert_eq!(buf.buf_len(), 3, stringify!($buf));
        )+};
    }
    check!(vec![7; 3], [7; 3], "abc", String::from("abc"), vec![7; 5].slice(1..4));
    let (result, buf) = AsyncRecv::new(&file, vec![7; 3]).await;
    assert_errno(result, errno::ENOTSOCK);
    assert_eq!(buf, [7; 3]);
    let (result, part) = AsyncRecv::new(&file, vec![7; 5].slice(1..)).await;
    assert_errno(result, errno::ENOTSOCK);
    assert_eq!(part.into_inner(), [7; 5]);
    Ok(())
}

async fn shared_buffers_are_freed_once() -> Outcome {
    let (a, b) = local_pair()?;
    let page: Arc<[u8]> = Arc::from(&b"page"[..]);
    let (result, back) = a.send(page.clone()).await;
    assert_eq!((result?, Arc::strong_count(&page)), (4, 2));
    drop(back);
    assert_eq!(Arc::strong_count(&page), 1);
    // One buffer in many operations at the same time.
    let shared = Shared::new(page.to_vec());
    let sends = (0..10).map(|_| a.send(shared.clone()));
    for (result, _) in corio::join_all(sends).await {
        assert_eq!(result?, 4);
    }
    assert_eq!(b.recv(vec![0; 64]).await.1, b"page".repeat(11));
    assert_eq!(shared.get(), b"page");
    Ok(())
}

async fn collections_know_their_size() -> Outcome {
    assert_eq!((["ab", "c"].total_len(), vec!["ab"; 5].total_len()), (3, 10));
    assert_eq!([Vec::<u8>::with_capacity(4), vec![1; 4]].total_capacity(), 8);
    assert_eq!(
        (vec![1_u8; 4].slice(1..3).buf_len(), vec![1_u8; 4].slice(1..3).buf_capacity()),
        (2, 2)
    );
    Ok(())
}

fn slices_out_of_bounds_panic(_: crate::harness::Case) -> Outcome {
    #[allow(clippy::reversed_empty_ranges)]
    let makers: [fn(); 3] = [
        || drop(vec![0_u8; 4].slice(5..)),
        || drop(vec![0_u8; 4].slice(3..2)),
        || drop(Vec::<u8>::with_capacity(4).slice(1..)),
    ];
    for make in makers {
        assert!(std::panic::catch_unwind(make).is_err());
    }
    Ok(())
}
