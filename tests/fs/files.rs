//! Files: opening, reading, writing, and their metadata.

use std::io::{ErrorKind, Write};
#[cfg(unix)]
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use corio::buf::IoBuf;
use corio::fs::{File, OpenOptions};
use corio::op::{AsyncOpen, AsyncRead, AsyncStatx, AsyncWrite};

#[cfg(unix)]
use crate::harness::is_cloexec;
use crate::harness::{Outcome, assert_errno, assert_kind, errno, file_with, noise};

every_driver! {
    opening_a_missing_file_is_not_found,
    a_directory_can_be_opened_but_not_written,
    a_path_with_a_nul_byte_is_refused,
    create_truncates_an_existing_file,
    append_ignores_the_offset,
    reads_and_writes_at_offsets,
    reads_at_the_end_are_short,
    vectored_reads_and_writes_use_all_buffers,
    paths_can_be_relative_to_a_directory,
    set_len_grows_and_shrinks,
    lengths_beyond_the_maximum_are_refused,
}

#[cfg(unix)]
every_driver! {
    a_file_converts_into_its_fd,
    open_options_agree_with_std,
    paths_of_any_legal_length_are_opened,
    mode_and_custom_flags_reach_the_kernel,
    more_buffers_than_iov_max_are_transferred_in_part,
    the_current_position_moves,
    pipes_are_read_and_written_at_the_current_position,
    an_offset_beyond_the_maximum_is_refused,
    the_last_offset_is_not_the_current_position,
    files_are_synced,
    allocate_grows_the_file,
    metadata_agrees_with_std,
    a_full_disk_is_an_error,
    the_wrong_direction_is_ebadf,
    a_directory_cannot_be_read,
    direct_io_reads_and_writes_aligned_buffers,
    a_buffer_longer_than_one_call_transfers_is_transferred_in_part,
    close_reports_and_gives_up_the_fd,
}

#[cfg(unix)]
async fn open_options_agree_with_std() -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("file");
    for exists in [false, true] {
        for bits in 0..1 << 6 {
            let has = |bit: u32| bits & (1 << bit) != 0;
            let reset = || {
                let _ = std::fs::remove_file(&path);
                if exists { std::fs::write(&path, "contents") } else { Ok(()) }
            };
            reset()?;
            let theirs = std::fs::OpenOptions::new()
                .read(has(0))
                .write(has(1))
                .append(has(2))
                .truncate(has(3))
                .create(has(4))
                .create_new(has(5))
                .open(&path);
            let their_len = std::fs::metadata(&path).map(|stat| stat.len()).ok();
            reset()?;
            let ours = OpenOptions::new()
                .read(has(0))
                .write(has(1))
                .append(has(2))
                .truncate(has(3))
                .create(has(4))
                .create_new(has(5))
                .open(&path)
                .await;
            let our_len = std::fs::metadata(&path).map(|stat| stat.len()).ok();
            let case = format!("{bits:06b}, exists: {exists}");
            assert_eq!(our_len, their_len, "{case}");
            match (ours, theirs) {
                (Ok(ours), Ok(mut theirs)) => {
                    let read = AsyncRead::new(&ours, vec![0; 4], 0).await.0;
                    assert_eq!(read.is_ok(), has(0), "{case}");
                    let write = AsyncWrite::new(&ours, "x", 0).await.0;
                    assert_eq!(write.is_ok(), theirs.write(b"x").is_ok(), "{case}");
                    assert!(is_cloexec(&ours));
                }
                (Err(ours), Err(theirs)) => assert_eq!(ours.kind(), theirs.kind(), "{case}"),
                (ours, theirs) => panic!("{case}: {ours:?}, std: {theirs:?}"),
            }
        }
    }
    Ok(())
}

async fn opening_a_missing_file_is_not_found() -> Outcome {
    let dir = tempfile::tempdir()?;
    assert_kind(File::open(dir.path().join("none")).await, ErrorKind::NotFound);
    assert_kind(File::create(dir.path().join("none/file")).await, ErrorKind::NotFound);
    assert_kind(corio::fs::metadata(dir.path().join("none")).await, ErrorKind::NotFound);
    assert_kind(File::open("").await, ErrorKind::NotFound);
    assert_kind(corio::fs::metadata("").await, ErrorKind::NotFound);
    let file = dir.path().join("file");
    File::create(&file).await?;
    let again = OpenOptions::new().write(true).create_new(true).open(&file).await;
    assert_kind(again, ErrorKind::AlreadyExists);
    let not_a_directory =
        if cfg!(windows) { ErrorKind::NotFound } else { ErrorKind::NotADirectory };
    assert_kind(File::open(file.join("below")).await, not_a_directory);
    Ok(())
}

async fn a_directory_can_be_opened_but_not_written() -> Outcome {
    let dir = tempfile::tempdir()?;
    assert!(File::open(dir.path()).await?.metadata().await?.is_dir());
    let writing = OpenOptions::new().write(true).open(dir.path()).await;
    let is_a_directory =
        if cfg!(windows) { ErrorKind::PermissionDenied } else { ErrorKind::IsADirectory };
    assert_kind(writing, is_a_directory);
    Ok(())
}

#[cfg(unix)]
async fn paths_of_any_legal_length_are_opened() -> Outcome {
    let dir = tempfile::tempdir()?;
    // Names of 1 to 255 bytes, so that every length around the inline limit comes up.
    for len in 1..=255 {
        let path = dir.path().join("n".repeat(len));
        File::create(&path).await?.write_at("here", 0).await.0?;
        assert_eq!(std::fs::read(&path)?, b"here");
        assert_eq!(corio::fs::metadata(&path).await?.len(), 4);
    }
    assert_kind(File::create(dir.path().join("n".repeat(256))).await, ErrorKind::InvalidFilename);
    let long = "d/".repeat(2000) + "file";
    assert_kind(File::open(&long).await, ErrorKind::NotFound);
    let too_long = "d/".repeat(3000) + "file";
    assert_errno(File::open(&too_long).await, errno::ENAMETOOLONG);
    assert_errno(corio::fs::metadata(&too_long).await, errno::ENAMETOOLONG);
    Ok(())
}

async fn a_path_with_a_nul_byte_is_refused() -> Outcome {
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("file"), "")?;
    for path in ["file\0", "file\0more", "\0", &("x".repeat(200) + "\0")] {
        let path = dir.path().join(path);
        assert_kind(File::open(&path).await, ErrorKind::InvalidInput);
        assert_kind(corio::fs::metadata(&path).await, ErrorKind::InvalidInput);
        assert_kind(corio::fs::symlink_metadata(&path).await, ErrorKind::InvalidInput);
    }
    Ok(())
}

async fn create_truncates_an_existing_file() -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("file");
    std::fs::write(&path, "something long")?;
    File::create(&path).await?.write_at("short", 0).await.0?;
    assert_eq!(std::fs::read(&path)?, b"short");
    Ok(())
}

async fn append_ignores_the_offset() -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("log");
    std::fs::write(&path, "one ")?;
    let file = OpenOptions::new().append(true).open(&path).await?;
    file.write_at("two ", 0).await.0?;
    file.writev_at(["thr", "ee"], 1).await.0?;
    assert_eq!(std::fs::read(&path)?, b"one two three");
    Ok(())
}

#[cfg(unix)]
async fn mode_and_custom_flags_reach_the_kernel() -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("file");
    let options = OpenOptions::new().write(true).create_new(true).mode(0o600);
    options.open(&path).await?;
    assert_eq!(std::fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);

    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link)?;
    let nofollow = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW);
    assert_errno(nofollow.open(&link).await, errno::ELOOP);
    // As with std, the access mode can't be smuggled in.
    let reading = OpenOptions::new().read(true).custom_flags(libc::O_RDWR).open(&path).await?;
    assert_errno(reading.write_at("x", 0).await.0, errno::EBADF);
    Ok(())
}

async fn paths_can_be_relative_to_a_directory() -> Outcome {
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("file"), "contents")?;
    let handle = File::open(dir.path()).await?;
    let file = File::from(AsyncOpen::at(&handle, "file", libc::O_RDONLY, 0).await?);
    assert_eq!(file.read_exact_at([0; 8], 0).await.1, *b"contents");
    assert_kind(AsyncOpen::at(&handle, "none", libc::O_RDONLY, 0).await, ErrorKind::NotFound);
    assert_errno(AsyncOpen::at(&file, "file", libc::O_RDONLY, 0).await, errno::ENOTDIR);
    Ok(())
}

async fn reads_and_writes_at_offsets() -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("file");
    let contents = noise(100_000);
    let file = OpenOptions::new().read(true).write(true).create(true).open(&path).await?;
    for (index, chunk) in contents.chunks(1777).enumerate().rev() {
        let (result, _) = file.write_at(chunk.to_vec(), index as u64 * 1777).await;
        assert_eq!(result?, chunk.len());
    }
    assert_eq!(std::fs::read(&path)?, contents);
    for (offset, len) in [(0, 1), (1, 4095), (4095, 2), (4096, 4096), (99_999, 1), (5000, 90_000)] {
        let (result, buf) = file.read_at(Vec::with_capacity(len), offset as u64).await;
        let (count, capacity) = (result?, buf.capacity());
        assert!(count >= len && count <= capacity);
        assert_eq!(buf, contents[offset..offset + count]);
    }
    Ok(())
}

async fn reads_at_the_end_are_short() -> Outcome {
    let file = File::from(file_with(b"0123456789")?);
    let (result, buf) = file.read_at(vec![0xff; 8], 6).await;
    assert_eq!((result?, &buf[..]), (4, &b"6789"[..]));
    let (result, buf) = file.read_at([0xff; 8], 6).await;
    assert_eq!((result?, &buf), (4, b"6789\xff\xff\xff\xff"));
    for offset in [10, 11, 1 << 40] {
        let (result, buf) = file.read_at(vec![0xff; 8], offset).await;
        assert_eq!((result?, buf.len()), (0, 0));
    }
    Ok(())
}

async fn vectored_reads_and_writes_use_all_buffers() -> Outcome {
    let contents = noise(3000);
    for count in [0, 1, 7, 8, 9, 300, 1000, 1024] {
        let file = File::from(tempfile::tempfile()?);
        // Some buffers are empty.
        let parts: Vec<Vec<u8>> = (0..count).map(|i| contents[i * 2..][..i % 3].to_vec()).collect();
        let whole = parts.concat();
        let (result, parts) = file.writev_at(parts, 5).await;
        assert_eq!((result?, parts.len()), (whole.len(), count));
        let (result, back) = file.read_at(Vec::with_capacity(4096), 5).await;
        assert_eq!((result?, &back), (whole.len(), &whole));

        let room: Vec<Box<[u8]>> = (0..count).map(|i| vec![0; i % 3].into()).collect();
        let (result, read) = file.readv_at(room, 5).await;
        // The first buffer is empty: alone, or without any, there is no room.
        match count {
            0 | 1 => assert_kind(result, ErrorKind::InvalidInput),
            _ => assert_eq!((result?, read.concat()), (whole.len(), whole)),
        }
    }
    // A short read fills the first buffers.
    let file = File::from(file_with(b"abcde")?);
    let (result, bufs) = file.readv_at([vec![9; 2], vec![9; 2], vec![9; 2], vec![9; 2]], 0).await;
    assert_eq!(result?, 5);
    assert_eq!(bufs, [b"ab".to_vec(), b"cd".to_vec(), b"e".to_vec(), vec![]]);
    Ok(())
}

#[cfg(unix)]
async fn more_buffers_than_iov_max_are_transferred_in_part() -> Outcome {
    let file = File::from(tempfile::tempfile()?);
    let (result, bufs) = file.writev_at(vec!["ab"; 2000], 0).await;
    assert_eq!((result?, bufs.len()), (2048, 2000), "the first 1,024 buffers are written");
    let (result, bufs) = file.readv_at(vec![[0; 1]; 2000], 0).await;
    assert_eq!(result?, 1024);
    assert_eq!(bufs.concat()[..1024], *b"ab".repeat(512));
    assert!(bufs.concat()[1024..].iter().all(|&byte| byte == 0));
    Ok(())
}

#[cfg(unix)]
async fn the_current_position_moves() -> Outcome {
    let file = file_with(b"0123456789")?;
    use std::io::{Seek, SeekFrom};
    (&file).seek(SeekFrom::Start(2))?;
    assert_eq!(AsyncRead::at_position(&file, [0; 3]).await.1, *b"234");
    assert_eq!(AsyncRead::new(&file, [0; 3], 0).await.1, *b"012");
    assert_eq!(AsyncRead::at_position(&file, [0; 3]).await.1, *b"567");
    AsyncWrite::at_position(&file, "XY").await.0?;
    assert_eq!((&file).stream_position()?, 10);
    assert_eq!(AsyncRead::new(&file, [0; 2], 8).await.1, *b"XY");
    Ok(())
}

#[cfg(unix)]
async fn pipes_are_read_and_written_at_the_current_position() -> Outcome {
    let (reader, writer) = std::io::pipe()?;
    let reading = AsyncRead::at_position(&reader, vec![0; 64]);
    let writing = async { AsyncWrite::at_position(&writer, "through a pipe").await.0 };
    let ((result, buf), written) = futures_util::join!(reading, writing);
    assert_eq!((result?, written?, &buf[..]), (14, 14, &b"through a pipe"[..]));
    drop(writer);
    assert_eq!(AsyncRead::at_position(&reader, vec![0; 64]).await.0?, 0);
    // A pipe has no offset, so any will do.
    let (reader, writer) = std::io::pipe()?;
    AsyncWrite::new(&writer, "abc", 7).await.0?;
    assert_eq!(AsyncRead::new(&reader, [0; 3], 1 << 40).await.1, *b"abc");
    Ok(())
}

#[cfg(unix)]
async fn an_offset_beyond_the_maximum_is_refused() -> Outcome {
    let file = File::from(file_with(b"0123456789")?);
    for offset in [1 << 63, u64::MAX - 1] {
        assert_errno(file.read_at([0; 4], offset).await.0, errno::EINVAL);
        assert_errno(file.write_at("x", offset).await.0, errno::EINVAL);
        assert_errno(file.readv_at([[0; 4]], offset).await.0, errno::EINVAL);
        assert_errno(file.writev_at(["x"], offset).await.0, errno::EINVAL);
        assert_kind(file.read_exact_at([0; 4], offset).await.0, ErrorKind::InvalidInput);
        assert_kind(file.write_all_at("x", offset).await.0, ErrorKind::InvalidInput);
    }
    Ok(())
}

/// To the kernel, an offset of `u64::MAX` means the file's current position.
#[cfg(unix)]
async fn the_last_offset_is_not_the_current_position() -> Outcome {
    let file = File::from(file_with(b"0123456789")?);
    std::io::Seek::rewind(&mut std::fs::File::from(
        std::os::fd::AsFd::as_fd(&file).try_clone_to_owned()?,
    ))?;
    assert_errno(file.read_at([0; 4], u64::MAX).await.0, errno::EINVAL);
    assert_errno(file.write_at("x", u64::MAX).await.0, errno::EINVAL);
    assert_errno(file.readv_at([[0; 4]], u64::MAX).await.0, errno::EINVAL);
    assert_errno(file.writev_at(["x"], u64::MAX).await.0, errno::EINVAL);
    assert_kind(file.read_exact_at([0; 4], u64::MAX).await.0, ErrorKind::InvalidInput);
    assert_kind(file.write_all_at("x", u64::MAX).await.0, ErrorKind::InvalidInput);
    // Nor is it on a pipe, where a whole transfer would add to it.
    let (reader, mut writer) = std::io::pipe()?;
    writer.write_all(b"ab")?;
    let whole = corio::op::AsyncReadExactAt::new(&reader, [0; 4], u64::MAX);
    assert_kind(whole.await.0, ErrorKind::InvalidInput);
    Ok(())
}

#[cfg(unix)]
async fn files_are_synced() -> Outcome {
    let file = File::from(tempfile::tempfile()?);
    file.write_at("kept", 0).await.0?;
    file.sync_data().await?;
    file.sync_all().await?;
    // A pipe has nothing to sync.
    let (reader, _writer) = std::io::pipe()?;
    assert_errno(corio::op::AsyncFsync::new(&reader).await, errno::EINVAL);
    assert_errno(corio::op::AsyncFdatasync::new(&reader).await, errno::EINVAL);
    Ok(())
}

#[cfg(unix)]
async fn allocate_grows_the_file() -> Outcome {
    let std_file = file_with(b"abc")?;
    let file = File::from(std_file.try_clone()?);
    file.allocate(1 << 16, 1 << 16).await?;
    let stat = std_file.metadata()?;
    assert_eq!(stat.len(), 1 << 17);
    assert!(stat.blocks() * 512 >= 1 << 16, "{} blocks", stat.blocks());
    assert_eq!(file.read_at([9; 4], 0).await.1, *b"abc\0");
    // With `FALLOC_FL_KEEP_SIZE` space is reserved, and the length stays.
    let keep = libc::FALLOC_FL_KEEP_SIZE;
    corio::op::AsyncFallocate::new(&file, keep, 1 << 17, 1 << 16).await?;
    assert_eq!(std_file.metadata()?.len(), 1 << 17);
    assert_errno(file.allocate(0, 0).await, errno::EINVAL);
    assert_errno(file.allocate(u64::MAX, 1).await, errno::EINVAL);
    Ok(())
}

async fn set_len_grows_and_shrinks() -> Outcome {
    let std_file = file_with(b"0123456789")?;
    let file = File::from(std_file.try_clone()?);
    for len in [4, 0, 1 << 20, 1 << 33, 7] {
        file.set_len(len).await?;
        assert_eq!(std_file.metadata()?.len(), len);
    }
    assert_eq!(file.read_at([9; 8], 0).await.1, *b"\0\0\0\0\0\0\0\x09");
    assert_errno(
        corio::op::AsyncFtruncate::new(&std::fs::File::open("Cargo.toml")?, 0).await,
        errno::EINVAL,
    );
    Ok(())
}

async fn lengths_beyond_the_maximum_are_refused() -> Outcome {
    let file = File::from(file_with(b"0123456789")?);
    for len in [1 << 63, u64::MAX] {
        assert_errno(file.set_len(len).await, errno::EINVAL);
        assert_errno(file.allocate(0, len).await, errno::EINVAL);
    }
    assert_eq!(file.metadata().await?.len(), 10);
    Ok(())
}

/// Compares one file's metadata with std's.
#[cfg(unix)]
#[track_caller]
fn compare(ours: &corio::fs::Metadata, theirs: &std::fs::Metadata) {
    assert_eq!(ours.len(), theirs.len());
    assert_eq!(ours.is_file(), theirs.is_file());
    assert_eq!(ours.is_dir(), theirs.is_dir());
    assert_eq!(ours.is_symlink(), theirs.is_symlink());
    assert_eq!(ours.mode(), theirs.mode());
    assert_eq!(ours.ino(), theirs.ino());
    assert_eq!(ours.dev(), theirs.dev());
    assert_eq!(ours.nlink(), theirs.nlink());
    assert_eq!(ours.modified().ok(), theirs.modified().ok());
    assert_eq!(ours.accessed().ok(), theirs.accessed().ok());
    assert_eq!(ours.created().ok(), theirs.created().ok());
}

#[cfg(unix)]
async fn metadata_agrees_with_std() -> Outcome {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("file");
    std::fs::write(&file, "contents")?;
    std::fs::hard_link(&file, dir.path().join("second"))?;
    let old = std::time::UNIX_EPOCH - std::time::Duration::new(12_345, 678_000_000);
    std::fs::File::options().write(true).open(&file)?.set_modified(old)?;
    let (link, dangling) = (dir.path().join("link"), dir.path().join("dangling"));
    std::os::unix::fs::symlink(&file, &link)?;
    std::os::unix::fs::symlink("nowhere", &dangling)?;
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket)?;

    let null = Path::new("/dev/null");
    for path in [dir.path(), &file, &link, &socket, null] {
        compare(&corio::fs::metadata(path).await?, &std::fs::metadata(path)?);
        let ours = corio::fs::symlink_metadata(path).await?;
        compare(&ours, &std::fs::symlink_metadata(path)?);
    }
    assert_kind(corio::fs::metadata(&dangling).await, ErrorKind::NotFound);
    let ours = corio::fs::symlink_metadata(&dangling).await?;
    compare(&ours, &std::fs::symlink_metadata(&dangling)?);

    let open = std::fs::File::open(&file)?;
    compare(&File::from(open.try_clone()?).metadata().await?, &open.metadata()?);
    assert_eq!(AsyncStatx::file(&open).await?.len(), 8);
    let (reader, _writer) = std::io::pipe()?;
    assert_eq!(AsyncStatx::file(&reader).await?.mode() & libc::S_IFMT, libc::S_IFIFO);
    Ok(())
}

#[cfg(unix)]
async fn a_full_disk_is_an_error() -> Outcome {
    let full = File::from(std::fs::File::options().write(true).open("/dev/full")?);
    let (result, buf) = full.write_at("lost", 0).await;
    assert_eq!((result.map_err(|error| error.kind()), buf), (Err(ErrorKind::StorageFull), "lost"));
    assert_kind(full.writev_at(["lost"], 0).await.0, ErrorKind::StorageFull);
    assert_kind(full.write_all_at("lost", 0).await.0, ErrorKind::StorageFull);
    Ok(())
}

#[cfg(unix)]
async fn the_wrong_direction_is_ebadf() -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("file");
    std::fs::write(&path, "contents")?;
    let reading = File::open(&path).await?;
    let (result, buf) = reading.write_at(String::from("x"), 0).await;
    assert_errno(result, errno::EBADF);
    assert_eq!(buf, "x");
    assert_errno(reading.writev_at(["x"], 0).await.0, errno::EBADF);
    assert_errno(reading.allocate(0, 10).await, errno::EBADF);
    let writing = OpenOptions::new().write(true).open(&path).await?;
    let (result, buf) = writing.read_at(vec![7; 3], 0).await;
    assert_errno(result, errno::EBADF);
    assert_eq!(buf, [7; 3], "an error leaves the buffer as it was");
    assert_errno(writing.readv_at([[0; 1]], 0).await.0, errno::EBADF);
    // An fd that stands for a path only can't be used for anything else.
    let path_only =
        std::fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(&path)?;
    assert_errno(AsyncRead::new(&path_only, [0; 1], 0).await.0, errno::EBADF);
    Ok(())
}

#[cfg(unix)]
async fn a_directory_cannot_be_read() -> Outcome {
    let dir = File::open("src").await?;
    assert_kind(dir.read_at([0; 16], 0).await.0, ErrorKind::IsADirectory);
    assert_kind(dir.read_exact_at([0; 16], 0).await.0, ErrorKind::IsADirectory);
    Ok(())
}

#[cfg(unix)]
async fn direct_io_reads_and_writes_aligned_buffers() -> Outcome {
    const BLOCK: usize = 4096;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("file");
    let contents = noise(2 * BLOCK);
    std::fs::write(&path, &contents)?;
    let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path).await;
    let Err(error) = &direct else {
        let file = direct?;
        // The memory must be aligned, too: some part of a larger buffer is.
        let buf = vec![0_u8; 2 * BLOCK];
        let begin = buf.as_ptr().align_offset(BLOCK);
        let (result, part) = file.read_at(buf.slice(begin..begin + BLOCK), BLOCK as u64).await;
        assert_eq!(result?, BLOCK);
        assert_eq!(&part[..], &contents[BLOCK..]);
        return Ok(());
    };
    // Not every file system supports `O_DIRECT`.
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    Ok(())
}

#[cfg(unix)]
async fn a_buffer_longer_than_one_call_transfers_is_transferred_in_part() -> Outcome {
    const MOST: usize = 0x7fff_f000;
    let null = File::from(std::fs::File::options().write(true).open("/dev/null")?);
    // Never touched, so it costs address space only.
    let huge = vec![0_u8; 3 << 30];
    let (result, huge) = null.write_at(huge, 0).await;
    assert_eq!(result?, MOST);
    let (result, huge) = null.write_all_at(huge, 0).await;
    result?;
    let (result, _) = null.writev_at([huge], 0).await;
    assert_eq!(result?, MOST);

    let file = File::from(file_with(b"0123456789")?);
    let (result, buf) = file.read_at(Vec::with_capacity(3 << 30), 0).await;
    assert_eq!((result?, &buf[..]), (10, &b"0123456789"[..]));
    Ok(())
}

#[cfg(unix)]
async fn close_reports_and_gives_up_the_fd() -> Outcome {
    let file = File::from(file_with(b"x")?);
    file.close().await?;
    let (reader, writer) = std::io::pipe()?;
    corio::op::AsyncClose::new(writer).await?;
    assert_eq!(AsyncRead::at_position(&reader, [0; 1]).await.0?, 0, "the writer is closed");
    // Dropping a handle closes the fd as well, in the background.
    let (reader, writer) = std::io::pipe()?;
    drop(File::from(std::os::fd::OwnedFd::from(writer)));
    assert_eq!(AsyncRead::at_position(&reader, [0; 1]).await.0?, 0);
    // So does dropping an operation that is never polled.
    let (reader, writer) = std::io::pipe()?;
    drop(corio::op::AsyncClose::new(writer));
    assert_eq!(AsyncRead::at_position(&reader, [0; 1]).await.0?, 0);
    Ok(())
}

#[cfg(unix)]
async fn a_file_converts_into_its_fd() -> Outcome {
    let file = File::from(file_with(b"0123456789")?);
    file.read_at([0; 4], 0).await.0?;
    let fd = std::os::fd::OwnedFd::try_from(file)?;
    assert_eq!(std::fs::File::from(fd).metadata()?.len(), 10);
    Ok(())
}
