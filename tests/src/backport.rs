//! A second QEMU beside the distribution's: Debian 12 has 7.2, its backports have 10.0.
//!
//! The machine's own apt sources stay as they are. A private list below the target directory names the
//! backports on the mirror that the machine already uses, and the packages are unpacked, not installed:
//!
//! ```text
//!   target/qemu-10.0/
//!     apt/sources.list, lists/, cache/    apt's private state
//!     packages/*.deb                      what was downloaded
//!     root/usr/bin/qemu-system-x86_64 …   what was unpacked; there only once it is whole
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::{self, progress, run};
use crate::{Context, Error, qemu};

/// What of the backport differs from the distribution's. Network boot ROMs are not needed: no guest of
/// the lab has a network card.
const PACKAGES: [&str; 4] = [
    "qemu-system-x86",
    "qemu-system-common",
    "qemu-system-data",
    "seabios",
];

/// The root directory of the unpacked packages, whether it is there or not.
#[must_use]
pub fn root() -> PathBuf {
    directory().join("root")
}

/// Unpacks QEMU 10.0 unless it is there or the distribution's QEMU is as new.
pub fn install() -> Result<(), Error> {
    if root().is_dir() || qemu::distribution()?.is_modern() {
        return Ok(());
    }
    let (codename, mirror) = mirror().context("QEMU 10.0 comes from Debian's backports")?;
    progress(&format!("fetching QEMU 10.0 from {codename}-backports"));
    download(&mirror, &format!("{codename}-backports"))?;
    unpack()
}

/// The name of this machine's Debian, and where its packages come from.
pub(crate) fn release() -> Result<(String, String), Error> {
    mirror().map(|(codename, mirror)| (codename, mirror.uri))
}

fn mirror() -> Result<(String, Source), Error> {
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let codename = value_of(&release, "VERSION_CODENAME")
        .ok_or_else(|| Error::new("/etc/os-release names no Debian release"))?;
    let mirror = machine_sources()?
        .into_iter()
        .find(|source| source.suites.contains(&codename))
        .ok_or_else(|| {
            Error::new(format!(
                "no apt source of this machine has the suite {codename}, so its mirror is not known"
            ))
        })?;
    Ok((codename, mirror))
}

fn download(mirror: &Source, suite: &str) -> Result<(), Error> {
    let apt = directory().join("apt");
    let packages = directory().join("packages");
    // An earlier attempt may have left another version.
    let _ = fs::remove_dir_all(&packages);
    for needed in [
        &apt.join("lists/partial"),
        &apt.join("cache/archives/partial"),
        &packages,
    ] {
        fs::create_dir_all(needed).context(format!("cannot make {}", needed.display()))?;
    }
    let list = apt.join("sources.list");
    fs::write(&list, mirror.line(suite)).context(format!("cannot write {}", list.display()))?;
    let apt_get = || {
        let mut command = Command::new("apt-get");
        command.current_dir(&packages);
        for (option, path) in [
            ("Dir::Etc::SourceList", &list),
            ("Dir::State::Lists", &apt.join("lists")),
            ("Dir::Cache", &apt.join("cache")),
        ] {
            command
                .arg("-o")
                .arg(format!("{option}={}", path.display()));
        }
        command.args(["-o", "Dir::Etc::SourceParts=-", "-q"]);
        command
    };
    run(apt_get().arg("update"))?;
    run(apt_get()
        .arg("download")
        .args(PACKAGES.map(|package| format!("{package}/{suite}"))))?;
    Ok(())
}

fn unpack() -> Result<(), Error> {
    let whole = root();
    let partial = directory().join("root.partial");
    let packages = directory().join("packages");
    let _ = fs::remove_dir_all(&partial);
    let mut libraries = Vec::new();
    for entry in fs::read_dir(&packages).context(format!("cannot read {}", packages.display()))? {
        let package = entry
            .context(format!("cannot read {}", packages.display()))?
            .path();
        run(Command::new("dpkg").arg("-x").arg(&package).arg(&partial))?;
        libraries.extend(dependencies(&run(Command::new("dpkg-deb")
            .arg("-f")
            .arg(&package)
            .arg("Depends"))?));
    }
    let linked = run(Command::new("ldd").arg(partial.join(BINARY)))?;
    if linked.contains("not found") {
        let libraries: Vec<_> = libraries.iter().map(String::as_str).collect();
        tools::install_packages(&libraries)?;
    }
    fs::rename(&partial, &whole).context(format!("cannot make {}", whole.display()))
}

/// The program inside [`root`].
pub const BINARY: &str = "usr/bin/qemu-system-x86_64";

fn directory() -> PathBuf {
    tools::target_directory().join("qemu-10.0")
}

/// The libraries in a package's Depends field, without QEMU's own packages, which are unpacked.
fn dependencies(field: &str) -> Vec<String> {
    field
        .split(',')
        .filter_map(|dependency| dependency.split_whitespace().next())
        .filter(|name| name.starts_with("lib"))
        .map(str::to_owned)
        .collect()
}

/// One apt source of this machine.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    uri: String,
    suites: Vec<String>,
    signed_by: Option<String>,
}

impl Source {
    fn line(&self, suite: &str) -> String {
        let options = self
            .signed_by
            .as_ref()
            .map(|key| format!("[signed-by={key}] "))
            .unwrap_or_default();
        format!("deb {options}{} {suite} main\n", self.uri)
    }
}

fn machine_sources() -> Result<Vec<Source>, Error> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.filter_map(Result::ok).map(|entry| entry.path()));
    }
    files.sort();
    let mut sources = Vec::new();
    for file in files.iter().filter(|file| file.is_file()) {
        let text = fs::read_to_string(file).context(format!("cannot read {}", file.display()))?;
        sources.extend(parse_sources(file, &text));
    }
    Ok(sources)
}

fn parse_sources(file: &Path, text: &str) -> Vec<Source> {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("list") => text.lines().filter_map(one_line_source).collect(),
        Some("sources") => text.split("\n\n").filter_map(deb822_source).collect(),
        _ => Vec::new(),
    }
}

/// `deb [signed-by=KEY arch=…] URI SUITE COMPONENT…`
fn one_line_source(line: &str) -> Option<Source> {
    let rest = line.trim().strip_prefix("deb ")?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let uri = words.next()?.to_owned();
    let suites = vec![words.next()?.to_owned()];
    let signed_by = options
        .split_whitespace()
        .find_map(|option| option.strip_prefix("signed-by="))
        .map(str::to_owned);
    words
        .any(|component| component == "main")
        .then_some(Source {
            uri,
            suites,
            signed_by,
        })
}

/// A paragraph of `Field: value` lines.
fn deb822_source(paragraph: &str) -> Option<Source> {
    let field = |name: &str| {
        paragraph.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    };
    let lists = |name: &str, wanted: &str| {
        field(name).is_some_and(|value| value.split_whitespace().any(|word| word == wanted))
    };
    if !lists("Types", "deb") || !lists("Components", "main") || lists("Enabled", "no") {
        return None;
    }
    Some(Source {
        uri: field("URIs")?.split_whitespace().next()?.to_owned(),
        suites: field("Suites")?
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        // A key may stand in the file itself, over several lines; then apt's own keyring has to do.
        signed_by: field("Signed-By").filter(|key| key.starts_with('/')),
    })
}

fn value_of(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        Some(
            line.strip_prefix(name)?
                .strip_prefix('=')?
                .trim_matches('"')
                .to_owned(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, text: &str) -> Vec<Source> {
        parse_sources(Path::new(name), text)
    }

    #[test]
    fn both_forms_of_apt_sources_name_the_mirror() {
        let expected = Source {
            uri: "https://mirror.example/debian".to_owned(),
            suites: vec!["bookworm".to_owned()],
            signed_by: Some("/usr/share/keyrings/key.gpg".to_owned()),
        };
        let list = "# deb https://no.example/debian bookworm main\n\
                    deb [arch=amd64 signed-by=/usr/share/keyrings/key.gpg] https://mirror.example/debian bookworm main contrib\n\
                    deb-src https://mirror.example/debian bookworm main\n";
        assert_eq!(parse("a.list", list), [expected]);

        let sources = "Types: deb\n# comment\nURIs: https://mirror.example/debian\nSuites: bookworm bookworm-updates\n\
                       Components: main\nSigned-By: /usr/share/keyrings/key.gpg\n\n\
                       Types: deb\nURIs: https://other.example/node\nSuites: nodistro\nComponents: other\n\n\
                       Enabled: no\nTypes: deb\nURIs: https://off.example/\nSuites: bookworm\nComponents: main\n";
        let found = parse("a.sources", sources);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].suites, ["bookworm", "bookworm-updates"]);
        assert_eq!(
            found[0].line("bookworm-backports"),
            "deb [signed-by=/usr/share/keyrings/key.gpg] https://mirror.example/debian bookworm-backports main\n"
        );
        assert_eq!(parse("a.list.save", list), []);
    }

    #[test]
    fn only_libraries_are_taken_from_a_packages_dependencies() {
        let field = "libaio1 (>= 0.3.93), libc6 (>= 2.34),libzstd1, qemu-system-data (>> 1:10), seabios, ipxe-qemu\n";
        assert_eq!(dependencies(field), ["libaio1", "libc6", "libzstd1"]);
    }
}
