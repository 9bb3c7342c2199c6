//! The page that shows a directory.
//!
//! The ring has no operation to read directories, and one of many thousand entries takes long. So
//! pages are made on another thread.

use std::cmp::Reverse;
use std::ffi::OsString;
use std::fmt::{self, Display, Write};
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{AtFlags, Dir, FileType, Stat, fstat, statat};

use super::paths::{UrlPath, encode};
use super::root::Root;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.25rem;font-weight:600;overflow-wrap:anywhere}\
table{width:100%;border-collapse:collapse}\
th{text-align:left;font-weight:500;opacity:.6}\
th,td{padding:.2rem .5rem;border-bottom:1px solid #8883}\
td:first-child{overflow-wrap:anywhere}\
.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}\
a{text-decoration:none}a:hover{text-decoration:underline}\
tr:hover td{background:#8881}";

/// One line of the page.
struct Entry {
    is_dir: bool,
    name: OsString,
    len: u64,
    /// Seconds since 1970.
    modified: i64,
}

/// Makes the page for `dir`, which is what `path` leads to. Links that lead nowhere, or out of the
/// root, are left out.
pub(crate) fn page(root: &Root, mut path: UrlPath, dir: &File) -> io::Result<String> {
    let mut entries = entries(root, &mut path, dir)?;
    entries.sort_by(|a, b| (Reverse(a.is_dir), &a.name).cmp(&(Reverse(b.is_dir), &b.name)));
    let mut page = String::with_capacity(2048 + entries.len() * 160);
    write(&mut page, &path, &entries).expect("writing into memory succeeds");
    Ok(page)
}

fn entries(root: &Root, path: &mut UrlPath, dir: &File) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    // Through the open directory, so that it is the one that was checked.
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        // An entry that was removed meanwhile is not shown.
        let Ok(mut stat) = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if is(&stat, FileType::Symlink) {
            path.push(name.to_bytes());
            let target = root.look(path).and_then(|target| Ok(fstat(target)?));
            path.leave();
            match target {
                Ok(target) if !is(&target, FileType::Symlink) => stat = target,
                _ => continue,
            }
        }
        let name = OsString::from_vec(name.to_bytes().to_vec());
        let is_dir = is(&stat, FileType::Directory);
        entries.push(Entry { is_dir, name, len: stat.st_size as u64, modified: stat.st_mtime });
    }
    Ok(entries)
}

fn is(stat: &Stat, file_type: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == file_type
}

fn write(page: &mut String, path: &UrlPath, entries: &[Entry]) -> fmt::Result {
    let title = String::from_utf8_lossy(path.bytes());
    write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>/{}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>",
        Escaped(&title)
    )?;
    breadcrumbs(page, path)?;
    page.write_str(
        "</h1>\n<table>\n<tr><th>Name</th><th class=\"n\">Size</th>\
         <th class=\"n\">Modified (UTC)</th></tr>\n",
    )?;
    if !path.bytes().is_empty() {
        page.write_str("<tr><td><a href=\"../\">../</a></td><td></td><td></td></tr>\n")?;
    }
    for entry in entries {
        row(page, entry)?;
    }
    page.write_str("</table>\n</body>\n</html>\n")
}

/// The path, each component of it a link.
fn breadcrumbs(page: &mut String, path: &UrlPath) -> fmt::Result {
    page.write_str("<a href=\"/\">/</a>")?;
    let bytes = path.bytes();
    let mut start = 0;
    for component in bytes.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
        let end = start + component.len();
        let name = String::from_utf8_lossy(component);
        write!(page, "<a href=\"/{}/\">{}/</a>", encode(&bytes[..end]), Escaped(&name))?;
        start = end + 1;
    }
    Ok(())
}

fn row(page: &mut String, entry: &Entry) -> fmt::Result {
    let slash = if entry.is_dir { "/" } else { "" };
    let name = entry.name.to_string_lossy();
    write!(
        page,
        "<tr><td><a href=\"{}{slash}\">{}{slash}</a></td><td class=\"n\">",
        encode(entry.name.as_bytes()),
        Escaped(&name)
    )?;
    if !entry.is_dir {
        write!(page, "{}", Size(entry.len))?;
    }
    writeln!(page, "</td><td class=\"n\">{}</td></tr>", Minute(entry.modified))
}

/// Text within HTML, or within an attribute's quotes.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
            f.write_str(&rest[..at])?;
            f.write_str(match rest.as_bytes()[at] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                _ => "&#39;",
            })?;
            rest = &rest[at + 1..];
        }
        f.write_str(rest)
    }
}

/// A length with a binary unit.
struct Size(u64);

impl Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut size = self.0 as f64;
        for unit in ["B", "KiB", "MiB", "GiB"] {
            if size < 1024.0 {
                let decimals = usize::from(unit != "B" && size < 10.0);
                return write!(f, "{size:.decimals$} {unit}");
            }
            size /= 1024.0;
        }
        write!(f, "{size:.1} TiB")
    }
}

/// A time, to the minute, as `2025-01-31 23:59`.
struct Minute(i64);

impl Display for Minute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0.div_euclid(86_400), self.0.rem_euclid(86_400));
        // Years that start in March, so that a leap day is a year's last; eras of 400 of them.
        let days = days + 719_468;
        let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = era * 400 + year + i64::from(month <= 2);
        let (hour, minute) = (second / 3_600, second / 60 % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
    }
}
