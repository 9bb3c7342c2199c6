//! Registered files.

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};

use corio::op::*;
use corio::os::OwnedFd;

#[cfg(unix)]
use crate::harness::watch;
use crate::harness::{
    Case, Outcome, assert_errno, assert_kind, errno, file_with, fill, noise, open_fds, settle,
    std_pair, tcp_pair,
};

every_driver! {
    every_operation_works_on_registered_files,
    a_stale_handle_is_an_error_for_every_operation,
    a_free_slot_is_reused,
    an_insert_into_a_full_table_is_refused,
    an_insert_within_an_insert_takes_a_slot_of_its_own,
    a_context_has_one_table_at_a_time,
    tables_of_absurd_sizes_are_refused,
    handles_of_another_table_are_refused,
    an_operation_in_flight_continues_on_the_old_file,
    a_sendfile_continues_on_the_old_files,
    an_operation_made_early_is_checked_when_it_starts;
    cases:
    handles_of_another_context_are_refused,
    a_table_outlives_its_context,
}

// With inotify and pipes.
#[cfg(unix)]
every_driver! {
    a_wait_on_a_nonblocking_fd_continues_on_the_old_file,
    a_whole_transfer_continues_on_the_old_file;
    cases:
    registered_fds_are_closed,
}

/// Checks that an error says what is wrong with the handle of a registered file.
#[track_caller]
fn assert_stale<T: std::fmt::Debug>(result: std::io::Result<T>) {
    let error = result.expect_err("the handle is stale");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("stale handle of a registered file"), "{error}");
}

async fn every_operation_works_on_registered_files() -> Outcome {
    let table = FixedFiles::register(8)?;
    let file = table.insert(tempfile::tempfile()?)?;
    assert_eq!(AsyncWrite::new(&file, "0123456789", 0).await.0?, 10);
    assert_eq!(AsyncWritev::new(&file, ["ab", "cd"], 10).await.0?, 4);
    AsyncWriteAllAt::new(&file, "ef", 14).await.0?;
    assert_eq!(AsyncRead::new(&file, [0; 4], 0).await.1, *b"0123");
    assert_eq!(AsyncReadv::new(&file, [[0; 2], [0; 2]], 8).await.1, [*b"89", *b"ab"]);
    assert_eq!(AsyncReadExactAt::new(&file, [0; 16], 0).await.1, *b"0123456789abcdef");
    AsyncFsync::new(&file).await?;
    AsyncFdatasync::new(&file).await?;
    AsyncFallocate::new(&file, 0, 0, 100).await?;
    assert_eq!(AsyncStatx::file(&file).await?.len(), 100);
    AsyncFtruncate::new(&file, 16).await?;
    assert_eq!(AsyncStatx::file(&file).await?.len(), 16);

    let (a, mut far) = std_pair()?;
    let socket = table.insert(a)?;
    AsyncSendfile::new(&socket, &file, 0, 16).await?;
    AsyncSend::new(&socket, "one").await.0?;
    AsyncSendAll::new(&socket, "two").await.0?;
    AsyncSendmsg::new(&socket, ["thr", "ee"]).await.0?;
    let mut all = [0; 27];
    far.read_exact(&mut all)?;
    assert_eq!(&all, b"0123456789abcdefonetwothree");
    far.write_all(b"abcdef")?;
    assert!(AsyncPoll::new(&socket, Interest::READABLE).await?.contains(Readiness::READABLE));
    assert_eq!(AsyncRecv::new(&socket, [0; 1]).await.1, *b"a");
    assert_eq!(AsyncRecvExact::new(&socket, [0; 2]).await.1, *b"bc");
    assert_eq!(AsyncRecvmsg::new(&socket, [[0; 3]]).await.1, [*b"def"]);
    AsyncShutdown::new(&socket, std::net::Shutdown::Write).await?;
    assert_eq!(far.read(&mut all)?, 0);

    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let listener = table.insert(listener)?;
    let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    let client = table.insert(client)?;
    let connecting = async { AsyncConnect::new(&client, address).await };
    let (connected, accepted) =
        futures_util::join!(connecting, async { AsyncAccept::new(&listener).await });
    connected?;
    AsyncSend::new(&client, "hi").await.0?;
    assert_eq!(AsyncRecv::new(&accepted?.0, [0; 2]).await.1, *b"hi");

    // std does not open directories on Windows.
    #[cfg(unix)]
    {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("file"), "contents")?;
        let dir = table.insert(std::fs::File::open(dir.path())?)?;
        let opened = AsyncOpen::at(&dir, "file", libc::O_RDONLY, 0).await;
        assert!(opened.is_ok());
    }
    table.unregister()?;
    Ok(())
}

async fn a_stale_handle_is_an_error_for_every_operation() -> Outcome {
    enum How {
        Updated,
        Removed,
        Unregistered,
        Dropped,
    }
    for how in [How::Updated, How::Removed, How::Unregistered, How::Dropped] {
        let table = FixedFiles::register(2)?;
        let stale = table.insert(tempfile::tempfile()?)?;
        let fresh = || file_with(b"the wrong file");
        let mut kept = None;
        match how {
            How::Updated => {
                table.update(&stale, fresh()?)?;
                kept = Some(table);
            }
            How::Removed => {
                table.remove(&stale)?;
                assert_stale(table.remove(&stale));
                assert_stale(table.update(&stale, fresh()?));
                // The next file gets the slot.
                assert_eq!(table.insert(fresh()?)?.slot(), stale.slot());
                kept = Some(table);
            }
            How::Unregistered => table.unregister()?,
            How::Dropped => drop(table),
        }
        let (near, _far) = std_pair()?;
        let file = file_with(b"contents")?;
        assert_errno(AsyncRead::new(&stale, [0; 1], 0).await.0, errno::EBADF);
        assert_errno(AsyncWrite::new(&stale, "x", 0).await.0, errno::EBADF);
        assert_errno(AsyncReadv::new(&stale, [[0; 1]], 0).await.0, errno::EBADF);
        assert_errno(AsyncWritev::new(&stale, ["x"], 0).await.0, errno::EBADF);
        assert!(AsyncReadExactAt::new(&stale, [0; 1], 0).await.0.is_err());
        assert!(AsyncWriteAllAt::new(&stale, "x", 0).await.0.is_err());
        assert_errno(AsyncRecv::new(&stale, [0; 1]).await.0, errno::EBADF);
        assert_errno(AsyncSend::new(&stale, "x").await.0, errno::EBADF);
        assert!(AsyncRecvExact::new(&stale, [0; 1]).await.0.is_err());
        assert!(AsyncSendAll::new(&stale, "x").await.0.is_err());
        assert_errno(AsyncRecvmsg::new(&stale, [[0; 1]]).await.0, errno::EBADF);
        assert_errno(AsyncSendmsg::new(&stale, ["x"]).await.0, errno::EBADF);
        assert_errno(AsyncAccept::new(&stale).await, errno::EBADF);
        assert_errno(AsyncConnect::new(&stale, ([127, 0, 0, 1], 1)).await, errno::EBADF);
        assert_errno(AsyncShutdown::new(&stale, std::net::Shutdown::Both).await, errno::EBADF);
        assert_errno(AsyncPoll::new(&stale, Interest::READABLE).await, errno::EBADF);
        assert!(AsyncSendfile::new(&stale, &file, 0, 1).await.is_err());
        assert!(AsyncSendfile::new(&near, &stale, 0, 1).await.is_err());
        assert_errno(AsyncFsync::new(&stale).await, errno::EBADF);
        assert_errno(AsyncFdatasync::new(&stale).await, errno::EBADF);
        assert_errno(AsyncFallocate::new(&stale, 0, 0, 1).await, errno::EBADF);
        assert_errno(AsyncFtruncate::new(&stale, 0).await, errno::EBADF);
        assert!(AsyncStatx::file(&stale).await.is_err());
        assert_errno(AsyncOpen::at(&stale, "x", libc::O_RDONLY, 0).await, errno::EBADF);
        drop(kept);
    }
    Ok(())
}

async fn a_free_slot_is_reused() -> Outcome {
    let table = FixedFiles::register(1)?;
    for number in 0..100_usize {
        let file = table.insert(file_with(number.to_string().as_bytes())?)?;
        assert_eq!(file.slot(), 0);
        let (result, buf) = AsyncRead::new(&file, vec![0; 8], 0).await;
        result?;
        assert_eq!(buf, number.to_string().as_bytes());
        if number % 2 == 0 {
            table.remove(&file)?;
        } else {
            let next = table.update(&file, file_with(b"next")?)?;
            assert_eq!(AsyncRead::new(&next, [0; 4], 0).await.1, *b"next");
            table.remove(&next)?;
        }
    }
    Ok(())
}

async fn an_insert_into_a_full_table_is_refused() -> Outcome {
    let table = FixedFiles::register(3)?;
    assert_eq!(table.capacity(), 3);
    let null = std::fs::File::open("/dev/null")?;
    let files: Vec<_> =
        (0..3).map(|_| table.insert(null.try_clone()?)).collect::<Result<_, _>>()?;
    assert_kind(table.insert(null.try_clone()?), ErrorKind::StorageFull);
    table.remove(&files[1])?;
    assert_eq!(table.insert(null.try_clone()?)?.slot(), 1);
    Ok(())
}

/// A file whose conversion inserts another one.
struct Nested<'a>(&'a FixedFiles, &'a Cell<Option<FixedFile>>);

impl From<Nested<'_>> for OwnedFd {
    fn from(Nested(table, inner): Nested<'_>) -> OwnedFd {
        inner.set(Some(table.insert(file_with(b"inner").unwrap()).unwrap()));
        file_with(b"outer").unwrap().into()
    }
}

async fn an_insert_within_an_insert_takes_a_slot_of_its_own() -> Outcome {
    let table = FixedFiles::register(2)?;
    let inner = Cell::new(None);
    let outer = table.insert(Nested(&table, &inner))?;
    let inner = inner.take().expect("it was inserted");
    assert_eq!(AsyncRead::new(&outer, [0; 5], 0).await.1, *b"outer");
    assert_eq!(AsyncRead::new(&inner, [0; 5], 0).await.1, *b"inner");
    Ok(())
}

async fn a_context_has_one_table_at_a_time() -> Outcome {
    let first = FixedFiles::register(1)?;
    let error = FixedFiles::register(1).map(drop).unwrap_err();
    assert!(error.to_string().contains("has a table of registered files already"), "{error}");
    // The first table is unchanged.
    let file = first.insert(file_with(b"contents")?)?;
    assert_eq!(AsyncRead::new(&file, [0; 8], 0).await.1, *b"contents");
    first.unregister()?;
    for _ in 0..3 {
        let again = FixedFiles::register(2)?;
        let file = again.insert(file_with(b"contents")?)?;
        assert_eq!(AsyncRead::new(&file, [0; 8], 0).await.1, *b"contents");
    }
    Ok(())
}

async fn tables_of_absurd_sizes_are_refused() -> Outcome {
    assert_errno(FixedFiles::register(0).map(drop), errno::EINVAL);
    for slots in [(1 << 20) + 1, u32::MAX] {
        assert_errno(FixedFiles::register(slots).map(drop), errno::EMFILE);
    }
    // A failure leaves nothing behind.
    FixedFiles::register(1)?.unregister()?;
    Ok(())
}

async fn handles_of_another_table_are_refused() -> Outcome {
    let first = FixedFiles::register(1)?;
    let old = first.insert(file_with(b"contents")?)?;
    first.unregister()?;
    let second = FixedFiles::register(1)?;
    let new = second.insert(file_with(b"the wrong file")?)?;
    assert_eq!(new.slot(), old.slot());
    assert_errno(AsyncRead::new(&old, [0; 1], 0).await.0, errno::EBADF);
    assert_stale(second.remove(&old));
    assert_stale(second.update(&old, file_with(b"")?));
    assert_eq!(AsyncRead::new(&new, [0; 3], 0).await.1, *b"the");
    Ok(())
}

/// The change of a slot while an operation on it is in flight.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Update,
    Remove,
    Unregister,
}

const FATES: [Fate; 3] = [Fate::Update, Fate::Remove, Fate::Unregister];

/// Puts `other` into the slot of `file`, or frees the slot. Returns what must be kept alive.
fn meet(
    fate: Fate,
    table: FixedFiles,
    file: &FixedFile,
    other: impl Into<OwnedFd>,
) -> std::io::Result<Option<FixedFiles>> {
    match fate {
        Fate::Update => table.update(file, other)?,
        Fate::Remove => {
            table.remove(file)?;
            table.insert(other)?
        }
        Fate::Unregister => return table.unregister().map(|()| None),
    };
    Ok(Some(table))
}

async fn an_operation_in_flight_continues_on_the_old_file() -> Outcome {
    for fate in FATES {
        let table = FixedFiles::register(1)?;
        let (a, mut far) = std_pair()?;
        let (other, mut wrong) = std_pair()?;
        let file = table.insert(a)?;
        let recv = corio::spawn({
            let file = file.clone();
            async move { AsyncRecv::new(&file, [0; 5]).await }
        });
        settle().await;
        let _table = meet(fate, table, &file, other)?;
        let _ = wrong.write_all(b"wrong"); // unless it is closed
        far.write_all(b"right")?;
        let (result, buf) = recv.await?;
        assert_eq!((result?, &buf), (5, b"right"), "{fate:?}");
    }
    Ok(())
}

/// Each step of a whole transfer is an entry of its own in the ring.
#[cfg(unix)]
async fn a_wait_on_a_nonblocking_fd_continues_on_the_old_file() -> Outcome {
    for fate in FATES {
        let (right, wrong) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let table = FixedFiles::register(1)?;
        let file = table.insert(watch(right.path())?)?;
        let read = corio::spawn({
            let file = file.clone();
            async move { AsyncRead::at_position(&file, vec![0; 256]).await }
        });
        settle().await;
        let _table = meet(fate, table, &file, watch(wrong.path())?)?;
        std::fs::write(wrong.path().join("wrong"), "")?;
        settle().await;
        std::fs::write(right.path().join("right"), "")?;
        let (result, buf) = read.await?;
        result?;
        assert!(buf.windows(5).any(|name| name == b"right"), "{fate:?}");
    }
    Ok(())
}

#[cfg(unix)]
async fn a_whole_transfer_continues_on_the_old_file() -> Outcome {
    for fate in FATES {
        let table = FixedFiles::register(1)?;
        let (reader, mut far) = std::io::pipe()?;
        let (other, mut wrong) = std::io::pipe()?;
        let file = table.insert(reader)?;
        far.write_all(b"ri")?;
        let read = corio::spawn({
            let file = file.clone();
            async move { AsyncReadExactAt::new(&file, [0; 5], 0).await }
        });
        settle().await;
        let table = meet(fate, table, &file, other)?;
        let _ = wrong.write_all(b"wrong"); // unless it is closed
        let _ = far.write_all(b"g");
        settle().await;
        let _ = far.write_all(b"ht");
        let (result, buf) = read.await?;
        assert_eq!((result.map_err(|error| error.kind()), &buf), (Ok(()), b"right"), "{fate:?}");
        drop(table);
    }
    Ok(())
}

async fn a_sendfile_continues_on_the_old_files() -> Outcome {
    const LEN: usize = 3 << 20;
    for fate in FATES {
        let table = FixedFiles::register(2)?;
        let (a, mut far) = tcp_pair()?;
        let contents = noise(LEN);
        let file = table.insert(file_with(&contents)?)?;
        let filled = fill_nonblocking(&a)?;
        let socket = table.insert(a)?;
        let sending = corio::spawn({
            let (socket, file) = (socket.clone(), file.clone());
            async move { AsyncSendfile::new(&socket, &file, 0, LEN as u64).await }
        });
        settle().await;
        assert!(!sending.is_finished());
        let table = meet(fate, table, &file, tempfile::tempfile()?)?;
        let table = match table {
            Some(table) => meet(fate, table, &socket, std_pair()?.0)?,
            None => None,
        };
        let reading = std::thread::spawn(move || {
            let mut all = Vec::new();
            far.read_to_end(&mut all).map(|_| all)
        });
        sending.await??;
        drop((socket, file, table));
        settle().await;
        let all = reading.join().expect("no panic")?;
        assert!(all[filled..] == contents, "{fate:?}");
    }
    Ok(())
}

fn fill_nonblocking(stream: &std::net::TcpStream) -> std::io::Result<usize> {
    stream.set_nonblocking(true)?;
    let filled = fill(stream)?;
    stream.set_nonblocking(false)?;
    Ok(filled)
}

async fn an_operation_made_early_is_checked_when_it_starts() -> Outcome {
    let table = FixedFiles::register(1)?;
    let file = table.insert(file_with(b"contents")?)?;
    let read = AsyncRead::new(&file, [0; 8], 0);
    table.remove(&file)?;
    table.insert(file_with(b"the wrong file")?)?;
    assert_errno(read.await.0, errno::EBADF);
    Ok(())
}

fn handles_of_another_context_are_refused(case: Case) -> Outcome {
    let mut first = case.context();
    let (table, file) = first.block_on(async {
        let table = FixedFiles::register(2)?;
        let file = table.insert(file_with(b"contents")?)?;
        Ok::<_, std::io::Error>((table, file))
    })?;
    drop(first);
    let mut second = case.context();
    second.block_on(async {
        assert_errno(AsyncRead::new(&file, [0; 1], 0).await.0, errno::EBADF);
        let own = FixedFiles::register(1)?;
        let right = own.insert(file_with(b"own")?)?;
        assert_errno(AsyncRead::new(&file, [0; 1], 0).await.0, errno::EBADF);
        assert_kind(table.insert(file_with(b"")?), ErrorKind::InvalidInput);
        assert_stale(table.remove(&file));
        assert_stale(own.remove(&file));
        // The old table's end does not touch the new one.
        drop(table);
        assert_eq!(AsyncRead::new(&right, [0; 3], 0).await.1, *b"own");
        Ok(())
    })
}

fn a_table_outlives_its_context(case: Case) -> Outcome {
    case.alone(|| {
        let before = open_fds();
        let mut context = case.context();
        let (table, file) = context.block_on(async {
            let table = FixedFiles::register(4)?;
            let file = table.insert(std_pair()?.0)?;
            Ok::<_, std::io::Error>((table, file))
        })?;
        drop(context);
        table.unregister()?;
        drop(file);
        assert_eq!(open_fds(), before);
        Ok(())
    })
}

#[cfg(unix)]
fn registered_fds_are_closed(case: Case) -> Outcome {
    case.alone(|| {
        let mut context = case.context();
        context.block_on(async {
            let before = open_fds();
            for fate in FATES {
                let table = FixedFiles::register(4)?;
                let (reader, writer) = std::io::pipe()?;
                let file = table.insert(writer)?;
                let other = std::fs::File::open("/dev/null")?;
                let table = meet(fate, table, &file, other)?;
                // The kernel has closed the pipe's writer, too.
                assert_eq!(AsyncRead::at_position(&reader, [0; 1]).await.0?, 0, "{fate:?}");
                drop((reader, table, file));
                settle().await;
                assert_eq!(open_fds(), before, "{fate:?}");
            }
            Ok(())
        })
    })
}
