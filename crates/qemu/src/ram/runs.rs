//! Many pages, taken as runs of neighbours: each costs a system call, or an entry in one.

use std::io;
use std::mem;

/// Gives each run's first offset and its part of the buffer, which holds the pages one after the other. The buffer must have
/// exactly their length.
pub(super) fn each<'b>(
    offsets: &[u64],
    page: usize,
    buffer: &'b mut [u8],
    mut visit: impl FnMut(u64, &'b mut [u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut rest = buffer;
    for (offset, length) in of(offsets, page) {
        let (part, after) = mem::take(&mut rest)
            .split_at_mut_checked(length)
            .ok_or(io::ErrorKind::InvalidInput)?;
        visit(offset, part)?;
        rest = after;
    }
    Ok(())
}

/// The same, for what is written.
pub(super) fn each_from<'b>(
    offsets: &[u64],
    page: usize,
    buffer: &'b [u8],
    mut visit: impl FnMut(u64, &'b [u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut rest = buffer;
    for (offset, length) in of(offsets, page) {
        let (part, after) = rest
            .split_at_checked(length)
            .ok_or(io::ErrorKind::InvalidInput)?;
        visit(offset, part)?;
        rest = after;
    }
    Ok(())
}

/// First offset and length of each run.
pub(super) fn of(offsets: &[u64], page: usize) -> impl Iterator<Item = (u64, usize)> {
    let follows = move |one: &u64, next: &u64| one.checked_add(page as u64) == Some(*next);
    offsets.chunk_by(follows).filter_map(move |run| {
        let &first = run.first()?;
        Some((first, run.len().saturating_mul(page)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_order_make_one_run() {
        let runs: Vec<_> = of(&[8, 12, 16, 4, 8, 20], 4).collect();
        assert_eq!(runs, [(8, 12), (4, 8), (20, 4)]);
        assert_eq!(of(&[], 4).count(), 0);
        assert_eq!(of(&[u64::MAX, 3], 4).count(), 2);
    }

    #[test]
    fn each_run_gets_its_part_of_the_buffer() {
        let mut buffer = *b"aaaabbbbcccc";
        let mut seen = Vec::new();
        each(&[0, 4, 12], 4, &mut buffer, |offset, part| {
            seen.push((offset, part.to_vec()));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [(0, b"aaaabbbb".to_vec()), (12, b"cccc".to_vec())]);
        assert!(each_from(&[0, 8], 4, b"aaaabbb", |_, _| Ok(())).is_err());
    }
}
