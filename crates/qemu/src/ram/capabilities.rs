//! Which of a source's migration capabilities forbid that pages are read behind QEMU's back.
//!
//! Reading them is right because QEMU, whenever it names a page in the stream, has cleared that page's dirty bit before, and
//! whatever the guest writes later comes in a later round. Where a page is left out of the stream, or means something else
//! there than "what this page now holds", that is not so.

use std::collections::BTreeMap;

/// Each with the reason, in words that follow "the memory is not read directly, since …".
const AGAINST: [(&str, &str); 6] = [
    (
        "xbzrle",
        "`xbzrle` is on: QEMU leaves out pages that equal what it believes the destination to have",
    ),
    (
        "background-snapshot",
        "`background-snapshot` is on: the stream has the guest's memory of one moment, not of now",
    ),
    (
        "x-colo",
        "`x-colo` is on: the guest runs on at both ends after its memory has moved",
    ),
    (
        "mapped-ram",
        "`mapped-ram` is on: it writes pages at places in a file, not as a stream",
    ),
    (
        "postcopy-ram",
        "`postcopy-ram` is on: the guest may run at the destination before its memory is there",
    ),
    (
        "x-ignore-shared",
        "`x-ignore-shared` is on: shared memory is left out of the stream",
    ),
];

/// Without it nobody says that the destination has loaded what it was given.
const NEEDED: &str = "return-path";

/// Why a source with these capabilities cannot have its memory read directly; none when it can. A capability that it does
/// not have is off.
#[must_use]
pub fn refused(capabilities: &BTreeMap<String, bool>) -> Option<&'static str> {
    let on = |name: &str| capabilities.get(name) == Some(&true);
    let against = AGAINST.iter().find(|(name, _)| on(name));
    match against {
        Some((_, reason)) => Some(reason),
        None if on(NEEDED) => None,
        None => {
            Some("`return-path` is off: the destination has no way to say that all has arrived")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(names: &[&str]) -> BTreeMap<String, bool> {
        let off = ["auto-converge", "xbzrle", "postcopy-ram"].map(|name| (name.to_owned(), false));
        let on = names.iter().map(|&name| (name.to_owned(), true));
        off.into_iter().chain(on).collect()
    }

    #[test]
    fn what_changes_no_pages_meaning_is_no_hindrance() {
        let usual = ["return-path", "multifd", "switchover-ack", "auto-converge"];
        assert_eq!(refused(&on(&usual)), None);
    }

    #[test]
    fn each_that_speaks_against_it_is_named() {
        for (name, _) in AGAINST {
            let reason = refused(&on(&["return-path", name])).unwrap();
            assert!(reason.starts_with(&format!("`{name}` is on")), "{reason}");
        }
        let reason = refused(&on(&["multifd"])).unwrap();
        assert!(reason.starts_with("`return-path` is off"), "{reason}");
    }
}
