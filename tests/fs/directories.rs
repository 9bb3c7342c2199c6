//! Creating, removing and renaming files and directories, checked with std.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use corio::OpCode;
#[cfg(unix)]
use corio::fs::symlink;
use corio::fs::{create_dir, hard_link, remove_dir, remove_file, rename};
use corio::op::{AsyncLink, AsyncMkdir, AsyncRename, AsyncSymlink, AsyncUnlink};

use crate::harness::{Case, Outcome, assert_errno, assert_kind};

every_driver! {
    a_removed_file_is_gone_and_its_directory_stays,
    a_directory_is_removed_only_when_it_is_empty,
    a_renamed_file_keeps_its_contents_and_replaces_what_was_there,
    a_hard_link_is_the_same_file_until_both_names_are_gone,
    a_hard_link_replaces_nothing_and_needs_a_file,
    a_created_directory_exists_once,
    a_path_with_a_nul_byte_is_refused_before_the_system_sees_it,
    long_paths_work_like_short_ones;
    cases:
    each_change_is_one_operation,
}

#[cfg(unix)]
every_driver! {
    relative_paths_start_from_the_open_directory,
    a_created_directory_has_the_mode_that_the_umask_leaves,
    a_symbolic_link_holds_what_it_was_given_and_leads_there,
    a_symbolic_link_replaces_nothing_and_needs_a_parent,
    symbolic_links_may_be_long_but_not_too_long,
}

#[cfg(target_os = "linux")]
every_driver! {
    a_rename_with_flags_replaces_nothing_or_exchanges,
    a_renamed_link_is_the_link_itself,
    a_hard_link_to_a_symbolic_link_follows_it_only_if_told,
    a_hard_link_does_not_cross_file_systems,
    a_symbolic_link_is_not_empty_and_may_hold_any_other_byte,
}

#[cfg(windows)]
every_driver! {
    a_symbolic_link_is_unsupported_and_makes_nothing,
}

async fn a_removed_file_is_gone_and_its_directory_stays() -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("file");
    fs::write(&path, "contents")?;
    remove_file(&path).await?;
    assert!(!path.exists() && dir.path().exists());
    assert_kind(remove_file(&path).await, ErrorKind::NotFound);
    assert_kind(remove_file(dir.path().join("no/file")).await, ErrorKind::NotFound);
    // `EISDIR` on Linux, `EPERM` by POSIX and elsewhere.
    assert!(remove_file(dir.path()).await.is_err() && dir.path().exists());
    Ok(())
}

async fn a_directory_is_removed_only_when_it_is_empty() -> Outcome {
    let dir = tempfile::tempdir()?;
    let (inner, file) = (dir.path().join("inner"), dir.path().join("inner/file"));
    fs::create_dir(&inner)?;
    fs::write(&file, "")?;
    assert_kind(remove_dir(&inner).await, ErrorKind::DirectoryNotEmpty);
    assert!(remove_dir(&file).await.is_err() && file.exists());
    remove_file(&file).await?;
    remove_dir(&inner).await?;
    assert!(!inner.exists());
    Ok(())
}

async fn a_renamed_file_keeps_its_contents_and_replaces_what_was_there() -> Outcome {
    let dir = tempfile::tempdir()?;
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    fs::write(&old, "kept")?;
    fs::write(&new, "replaced")?;
    rename(&old, &new).await?;
    assert!(!old.exists());
    assert_eq!(fs::read(&new)?, b"kept");
    assert_kind(rename(&old, &new).await, ErrorKind::NotFound);
    assert_eq!(fs::read(&new)?, b"kept");
    Ok(())
}

async fn a_hard_link_is_the_same_file_until_both_names_are_gone() -> Outcome {
    let dir = tempfile::tempdir()?;
    let (original, link) = (dir.path().join("original"), dir.path().join("link"));
    fs::write(&original, "before")?;
    hard_link(&original, &link).await?;
    assert_eq!(fs::read(&link)?, b"before");
    fs::write(&link, "after")?;
    assert_eq!(fs::read(&original)?, b"after");
    remove_file(&original).await?;
    assert!(!original.exists());
    assert_eq!(fs::read(&link)?, b"after");
    Ok(())
}

async fn a_hard_link_replaces_nothing_and_needs_a_file() -> Outcome {
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name);
    fs::write(at("one"), "one")?;
    fs::write(at("two"), "two")?;
    fs::create_dir(at("dir"))?;
    assert_kind(hard_link(at("one"), at("two")).await, ErrorKind::AlreadyExists);
    assert_kind(hard_link(at("one"), at("one")).await, ErrorKind::AlreadyExists);
    assert_kind(hard_link(at("one"), at("dir")).await, ErrorKind::AlreadyExists);
    assert_eq!(fs::read(at("two"))?, b"two");
    assert_kind(hard_link(at("none"), at("new")).await, ErrorKind::NotFound);
    assert_kind(hard_link(at("one"), at("no/new")).await, ErrorKind::NotFound);
    assert_kind(hard_link("", at("new")).await, ErrorKind::NotFound);
    assert_kind(hard_link(at("one"), "").await, ErrorKind::NotFound);
    // Linux says that it is not permitted; others may say more.
    assert!(hard_link(at("dir"), at("new")).await.is_err() && !at("new").exists());
    assert_eq!(fs::read_dir(dir.path())?.count(), 3);
    Ok(())
}

async fn a_created_directory_exists_once() -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("new");
    create_dir(&path).await?;
    assert!(path.is_dir());
    assert_kind(create_dir(&path).await, ErrorKind::AlreadyExists);
    assert_kind(create_dir(dir.path().join("no/parent")).await, ErrorKind::NotFound);
    Ok(())
}

async fn a_path_with_a_nul_byte_is_refused_before_the_system_sees_it() -> Outcome {
    let dir = tempfile::tempdir()?;
    let bad = dir.path().join("a\0b");
    assert_kind(remove_file(&bad).await, ErrorKind::InvalidInput);
    assert_kind(remove_dir(&bad).await, ErrorKind::InvalidInput);
    assert_kind(create_dir(&bad).await, ErrorKind::InvalidInput);
    assert_kind(rename(&bad, dir.path().join("b")).await, ErrorKind::InvalidInput);
    assert_kind(rename(dir.path().join("b"), &bad).await, ErrorKind::InvalidInput);
    assert_kind(hard_link(&bad, dir.path().join("b")).await, ErrorKind::InvalidInput);
    assert_kind(hard_link(dir.path().join("b"), &bad).await, ErrorKind::InvalidInput);
    assert_kind(AsyncSymlink::new(&bad, dir.path().join("b")).await, ErrorKind::InvalidInput);
    assert_kind(AsyncSymlink::new("b", &bad).await, ErrorKind::InvalidInput);
    assert_eq!(fs::read_dir(dir.path())?.count(), 0);
    Ok(())
}

async fn long_paths_work_like_short_ones() -> Outcome {
    let dir = tempfile::tempdir()?;
    let long = |letter: &str| dir.path().join(letter.repeat(200));
    create_dir(long("a")).await?;
    rename(long("a"), long("b")).await?;
    assert!(!long("a").exists() && long("b").is_dir());
    remove_dir(long("b")).await?;
    fs::write(long("c"), "contents")?;
    hard_link(long("c"), long("d")).await?;
    assert_eq!(fs::read(long("d"))?, b"contents");
    assert!(hard_link(long("c"), dir.path().join("e".repeat(10_000))).await.is_err());
    remove_file(long("c")).await?;
    remove_file(long("d")).await?;
    assert!(create_dir(dir.path().join("c".repeat(10_000))).await.is_err());
    assert_eq!(fs::read_dir(dir.path())?.count(), 0);
    Ok(())
}

fn each_change_is_one_operation(case: Case) -> Outcome {
    let mut context = case.context();
    let dir = tempfile::tempdir()?;
    context.block_on(async {
        create_dir(dir.path().join("a")).await?;
        rename(dir.path().join("a"), dir.path().join("b")).await?;
        remove_dir(dir.path().join("b")).await?;
        fs::write(dir.path().join("c"), "")?;
        #[cfg(unix)]
        symlink("c", dir.path().join("e")).await?;
        hard_link(dir.path().join("c"), dir.path().join("d")).await
    })?;
    let codes = [
        OpCode::Mkdir,
        OpCode::Rename,
        OpCode::Unlink,
        OpCode::Link,
        #[cfg(unix)]
        OpCode::Symlink,
    ];
    for code in codes {
        let one = context.stats().of(code);
        assert_eq!((one.submitted, one.completed, one.failed), (1, 1, 0), "{code}");
    }
    Ok(())
}

#[cfg(unix)]
async fn relative_paths_start_from_the_open_directory() -> Outcome {
    let (one, two) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (one_dir, two_dir) = (fs::File::open(one.path())?, fs::File::open(two.path())?);
    AsyncMkdir::at(&one_dir, "a", 0o700).await?;
    assert!(one.path().join("a").is_dir());
    AsyncRename::at(&one_dir, "a", &two_dir, "b", 0).await?;
    assert!(!one.path().join("a").exists() && two.path().join("b").is_dir());
    AsyncUnlink::at(&two_dir, "b", libc::AT_REMOVEDIR).await?;
    assert!(!two.path().join("b").exists());
    fs::write(one.path().join("e"), "contents")?;
    AsyncLink::at(&one_dir, "e", &two_dir, "f", 0).await?;
    assert_eq!(fs::read(two.path().join("f"))?, b"contents");
    // What a link holds starts from the link's directory, and is not looked up before.
    AsyncSymlink::at("f", &two_dir, "g").await?;
    assert_eq!(fs::read(two.path().join("g"))?, b"contents");
    // An absolute path starts from the root all the same.
    AsyncMkdir::at(&one_dir, two.path().join("c"), 0o700).await?;
    assert!(two.path().join("c").is_dir());
    AsyncSymlink::at("f", &one_dir, two.path().join("h")).await?;
    assert_eq!(fs::read(two.path().join("h"))?, b"contents");
    let file = tempfile::tempfile()?;
    assert_kind(AsyncSymlink::at("f", &file, "i").await, ErrorKind::NotADirectory);
    assert_kind(AsyncMkdir::at(&file, "d", 0o700).await, ErrorKind::NotADirectory);
    Ok(())
}

#[cfg(unix)]
async fn a_created_directory_has_the_mode_that_the_umask_leaves() -> Outcome {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir()?;
    let mode = |path: &Path| fs::metadata(path).map(|metadata| metadata.permissions().mode());
    let (ours, std) = (dir.path().join("ours"), dir.path().join("std"));
    create_dir(&ours).await?;
    fs::create_dir(&std)?;
    assert_eq!(mode(&ours)?, mode(&std)?);
    let private = dir.path().join("private");
    AsyncMkdir::new(&private, 0o500).await?;
    assert_eq!(mode(&private)? & 0o777, 0o500);
    Ok(())
}

#[cfg(target_os = "linux")]
async fn a_rename_with_flags_replaces_nothing_or_exchanges() -> Outcome {
    let dir = tempfile::tempdir()?;
    let open = fs::File::open(dir.path())?;
    fs::write(dir.path().join("a"), "a")?;
    fs::write(dir.path().join("b"), "b")?;
    let keep = AsyncRename::at(&open, "a", &open, "b", libc::RENAME_NOREPLACE).await;
    assert_kind(keep, ErrorKind::AlreadyExists);
    AsyncRename::at(&open, "a", &open, "b", libc::RENAME_EXCHANGE).await?;
    assert_eq!(fs::read(dir.path().join("a"))?, b"b");
    assert_eq!(fs::read(dir.path().join("b"))?, b"a");
    assert_errno(AsyncRename::at(&open, "a", &open, "b", 1 << 20).await, libc::EINVAL);
    Ok(())
}

#[cfg(target_os = "linux")]
async fn a_renamed_link_is_the_link_itself() -> Outcome {
    let dir = tempfile::tempdir()?;
    let (link, moved) = (dir.path().join("link"), dir.path().join("moved"));
    std::os::unix::fs::symlink("nowhere", &link)?;
    rename(&link, &moved).await?;
    assert_eq!(fs::read_link(&moved)?, Path::new("nowhere"));
    remove_file(&moved).await?;
    assert!(fs::symlink_metadata(&moved).is_err());
    Ok(())
}

#[cfg(target_os = "linux")]
async fn a_hard_link_to_a_symbolic_link_follows_it_only_if_told() -> Outcome {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir()?;
    let open = fs::File::open(dir.path())?;
    let at = |name: &str| dir.path().join(name);
    fs::write(at("file"), "contents")?;
    std::os::unix::fs::symlink("file", at("symlink"))?;
    std::os::unix::fs::symlink("nowhere", at("dangling"))?;
    hard_link(at("symlink"), at("itself")).await?;
    assert_eq!(fs::read_link(at("itself"))?, Path::new("file"));
    let follow = libc::AT_SYMLINK_FOLLOW;
    AsyncLink::at(&open, "symlink", &open, "followed", follow).await?;
    assert_eq!(fs::symlink_metadata(at("followed"))?.ino(), fs::metadata(at("file"))?.ino());
    assert_eq!(fs::metadata(at("file"))?.nlink(), 2);
    hard_link(at("dangling"), at("dangling too")).await?;
    let nowhere = AsyncLink::at(&open, "dangling", &open, "new", follow).await;
    assert_kind(nowhere, ErrorKind::NotFound);
    assert_errno(AsyncLink::at(&open, "file", &open, "new", 1 << 20).await, libc::EINVAL);
    assert_errno(AsyncLink::at(&open, "file", &open, "new", -1).await, libc::EINVAL);
    assert_errno(hard_link(dir.path(), at("new")).await, libc::EPERM);
    assert!(!at("new").exists());
    Ok(())
}

#[cfg(target_os = "linux")]
async fn a_hard_link_does_not_cross_file_systems() -> Outcome {
    let dir = tempfile::tempdir()?;
    let link = dir.path().join("link");
    assert_kind(hard_link("/proc/version", &link).await, ErrorKind::CrossesDevices);
    assert!(!link.exists());
    Ok(())
}

#[cfg(unix)]
async fn a_symbolic_link_holds_what_it_was_given_and_leads_there() -> Outcome {
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name);
    fs::write(at("file"), "before")?;
    create_dir(at("dir")).await?;
    symlink(at("file"), at("absolute")).await?;
    symlink("../file", at("dir/relative")).await?;
    symlink(".//dir/../dir/", at("to dir")).await?;
    assert_eq!(fs::read(at("absolute"))?, b"before");
    fs::write(at("dir/relative"), "after")?;
    assert_eq!(fs::read(at("file"))?, b"after");
    assert!(at("to dir").is_dir() && fs::symlink_metadata(at("to dir"))?.is_symlink());
    // As strings: paths are equal even where their separators differ.
    assert_eq!(fs::read_link(at("absolute"))?.as_os_str(), at("file").as_os_str());
    assert_eq!(fs::read_link(at("to dir"))?.as_os_str(), ".//dir/../dir/");
    remove_file(at("to dir")).await?;
    assert!(at("dir").is_dir());
    // It need not lead anywhere, and may lead to itself.
    symlink("nowhere", at("dangling")).await?;
    assert_kind(fs::read(at("dangling")), ErrorKind::NotFound);
    symlink("circle", at("circle")).await?;
    assert_eq!(fs::read_link(at("circle"))?, Path::new("circle"));
    assert_errno(fs::read(at("circle")), libc::ELOOP);
    Ok(())
}

#[cfg(unix)]
async fn a_symbolic_link_replaces_nothing_and_needs_a_parent() -> Outcome {
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name);
    fs::write(at("file"), "kept")?;
    fs::create_dir(at("dir"))?;
    symlink("nowhere", at("dangling")).await?;
    for taken in ["file", "dir", "dangling"] {
        assert_kind(symlink("other", at(taken)).await, ErrorKind::AlreadyExists);
    }
    assert_eq!(fs::read(at("file"))?, b"kept");
    assert_eq!(fs::read_link(at("dangling"))?, Path::new("nowhere"));
    assert_kind(symlink("file", at("no/link")).await, ErrorKind::NotFound);
    assert_kind(symlink("file", at("dangling/link")).await, ErrorKind::NotFound);
    assert_kind(symlink("file", at("file/link")).await, ErrorKind::NotADirectory);
    assert_kind(symlink("file", "").await, ErrorKind::NotFound);
    assert_eq!(fs::read_dir(dir.path())?.count(), 3);
    Ok(())
}

#[cfg(unix)]
async fn symbolic_links_may_be_long_but_not_too_long() -> Outcome {
    let dir = tempfile::tempdir()?;
    let long = |letter: &str| dir.path().join(letter.repeat(200));
    fs::write(long("a"), "contents")?;
    symlink(long("a"), long("b")).await?;
    assert_eq!(fs::read(long("b"))?, b"contents");
    let (held, too_long) = ("../".repeat(300), "c".repeat(10_000));
    symlink(&held, dir.path().join("d")).await?;
    assert_eq!(fs::read_link(dir.path().join("d"))?.as_os_str(), held.as_str());
    assert_errno(symlink(&too_long, dir.path().join("e")).await, libc::ENAMETOOLONG);
    assert_errno(symlink("a", dir.path().join(&too_long)).await, libc::ENAMETOOLONG);
    assert_eq!(fs::read_dir(dir.path())?.count(), 3);
    Ok(())
}

#[cfg(target_os = "linux")]
async fn a_symbolic_link_is_not_empty_and_may_hold_any_other_byte() -> Outcome {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir()?;
    let link = dir.path().join("link");
    assert_kind(symlink("", &link).await, ErrorKind::NotFound);
    let bytes: Vec<u8> = (1..=255).collect();
    symlink(OsStr::from_bytes(&bytes), &link).await?;
    assert_eq!(fs::read_link(&link)?.as_os_str().as_bytes(), bytes);
    Ok(())
}

#[cfg(windows)]
async fn a_symbolic_link_is_unsupported_and_makes_nothing() -> Outcome {
    let dir = tempfile::tempdir()?;
    let link = dir.path().join("link");
    assert_kind(AsyncSymlink::new("original", &link).await, ErrorKind::Unsupported);
    assert!(fs::symlink_metadata(&link).is_err());
    Ok(())
}
