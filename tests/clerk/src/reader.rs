//! Fetching all files of the web server, over and over, and comparing each with what it was.

use std::fmt::Display;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use crate::Done;

/// Where nginx is.
const SERVER: &str = "127.0.0.1:80";

/// Larger ones would make the work uneven.
const LARGEST: u64 = 256 << 10;

/// A file, and what must be in it.
#[derive(Debug)]
pub(crate) struct Document {
    name: String,
    sum: u64,
}

/// All files below the server's folder, as the file system has them now.
pub(crate) fn list(root: &Path) -> io::Result<Vec<Document>> {
    let mut documents = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let (kind, path) = (entry.file_type()?, entry.path());
            let name = path.strip_prefix(root).ok().and_then(Path::to_str);
            // Names that need no quoting in a request.
            let plain = |name: &str| {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
                name.bytes().all(plain)
            };
            match name {
                Some(_) if kind.is_dir() => folders.push(path),
                Some(name)
                    if kind.is_file() && plain(name) && entry.metadata()?.len() <= LARGEST =>
                {
                    documents.push(Document {
                        name: name.to_owned(),
                        sum: sum(&fs::read(&path)?),
                    });
                }
                _ => {}
            }
        }
    }
    documents.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(documents)
}

/// Works until something is wrong with the server itself; says what.
pub(crate) fn run(documents: &[Document], done: &Done) -> impl Display + use<> {
    let ended = loop {
        match pass(documents, done) {
            Ok(()) => Done::count(&done.all_read),
            Err(error) => break error,
        }
    };
    format!("the web server: {ended}")
}

fn pass(documents: &[Document], done: &Done) -> io::Result<()> {
    // The server closes a connection after so many requests; its default is a thousand.
    const REQUESTS: usize = 500;
    for some in documents.chunks(REQUESTS) {
        let mut connection = BufReader::new(TcpStream::connect(SERVER)?);
        connection.get_ref().set_nodelay(true)?;
        for document in some {
            let contents = fetch(&mut connection, &document.name)?;
            if sum(&contents) != document.sum {
                done.bad(&format!("{} is not what it was", document.name));
            }
            Done::count(&done.files);
        }
    }
    Ok(())
}

fn fetch(connection: &mut BufReader<TcpStream>, name: &str) -> io::Result<Vec<u8>> {
    let request = format!("GET /{name} HTTP/1.1\r\nHost: guest\r\n\r\n");
    connection.get_mut().write_all(request.as_bytes())?;
    let mut length = None;
    let mut line = String::new();
    connection.read_line(&mut line)?;
    if !line.starts_with("HTTP/1.1 200 ") {
        return Err(io::Error::other(format!(
            "{name}: it said `{}`",
            line.trim()
        )));
    }
    loop {
        line.clear();
        connection.read_line(&mut line)?;
        let Some((field, value)) = line.split_once(':') else {
            break;
        };
        if field.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok();
        }
    }
    let length = length.filter(|&length| length <= LARGEST);
    let length = length.ok_or_else(|| io::Error::other(format!("{name}: of no known length")))?;
    let mut contents = Vec::new();
    connection.take(length).read_to_end(&mut contents)?;
    Ok(contents)
}

/// Depends on every byte and its place, eight at a time: an emulated processor multiplies fast.
fn sum(contents: &[u8]) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let (words, rest) = contents.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    let rest = rest.iter().map(|&byte| u64::from(byte));
    let length = u64::try_from(contents.len()).unwrap_or(u64::MAX);
    words.chain(rest).fold(length, |sum, word| {
        (sum ^ word).wrapping_mul(PRIME).rotate_left(23)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_changes_the_sum() {
        let contents: Vec<u8> = (0..100).collect();
        for place in 0..contents.len() {
            let mut changed = contents.clone();
            changed[place] ^= 1;
            assert_ne!(sum(&changed), sum(&contents));
        }
        assert_ne!(sum(&[]), sum(&[0]));
    }
}
