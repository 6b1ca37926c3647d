//! The raw limits: what the machine and the libraries do without sealift.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use sha2::{Digest as _, Sha256};

use crate::{Case, guest};

/// Bytes that the raw cases go over: more than fits the second-level cache, as guest memory does.
const FOOTPRINT: usize = 16 << 20;

/// Bytes of associated data: those of a sealed batch's header.
const AAD: [u8; 28] = [7; 28];

/// Bytes of a tag.
const TAG: usize = 16;

/// Names of the raw cases that others are held against.
pub mod name {
    /// Sealing 256 KiB by ring alone.
    pub const RING_SEAL_256K: &str = "ring seal, 256 KiB";
    /// Opening 256 KiB by ring alone.
    pub const RING_OPEN_256K: &str = "ring open, 256 KiB";
    /// Sealing 64 KiB by ring alone.
    pub const RING_SEAL_64K: &str = "ring seal, 64 KiB";
    /// Opening 64 KiB by ring alone.
    pub const RING_OPEN_64K: &str = "ring open, 64 KiB";
    /// Copying memory.
    pub const MEMCPY: &str = "memcpy, 16 MiB";
}

/// All raw cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut cases = vec![memcpy()];
    for (seal, open, len) in [
        (name::RING_SEAL_256K, name::RING_OPEN_256K, 256 << 10),
        (name::RING_SEAL_64K, name::RING_OPEN_64K, 64 << 10),
    ] {
        cases.push(ring_seal(seal, len));
        cases.push(ring_open(open, len));
    }
    cases.push(hash("SHA-256, 4 KiB", 4 << 10, |chunk| {
        Sha256::digest(chunk)[0]
    }));
    cases.push(hash("SHA-256, 64 KiB", 64 << 10, |chunk| {
        Sha256::digest(chunk)[0]
    }));
    cases.push(hash("BLAKE3, 4 KiB", 4 << 10, |chunk| {
        blake3::hash(chunk).as_bytes()[0]
    }));
    cases.push(hash("BLAKE3, 64 KiB", 64 << 10, |chunk| {
        blake3::hash(chunk).as_bytes()[0]
    }));
    cases.extend(compression("zstd -1, 4 KiB", 4 << 10));
    cases.extend(compression("zstd -1, 64 KiB", 64 << 10));
    cases.extend(compression("zstd -1, 1 MiB", 1 << 20));
    cases
}

fn raw(name: &'static str, bytes: usize, run: impl FnMut(&mut crate::Watch) + 'static) -> Case {
    Case {
        name,
        against: None,
        target: None,
        bytes,
        run: Box::new(run),
    }
}

fn memcpy() -> Case {
    let from = guest::memory(FOOTPRINT);
    let mut to = vec![0; FOOTPRINT];
    raw(name::MEMCPY, FOOTPRINT, move |watch| {
        watch.time(|| to.copy_from_slice(&from));
        std::hint::black_box(&to);
    })
}

fn key() -> LessSafeKey {
    match UnboundKey::new(&AES_256_GCM, &[3; 32]) {
        Ok(key) => LessSafeKey::new(key),
        Err(_) => unreachable!("a key of AES-256 has 32 bytes"),
    }
}

fn nonce(number: usize) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&(number as u64).to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

fn ring_seal(name: &'static str, len: usize) -> Case {
    let key = key();
    let mut memory = guest::memory(FOOTPRINT);
    raw(name, FOOTPRINT, move |watch| {
        watch.time(|| {
            for (number, chunk) in memory.chunks_exact_mut(len).enumerate() {
                let tag = key.seal_in_place_separate_tag(nonce(number), Aad::from(AAD), chunk);
                std::hint::black_box(tag.is_ok());
            }
        });
    })
}

fn ring_open(name: &'static str, len: usize) -> Case {
    let key = key();
    let memory = guest::memory(FOOTPRINT);
    let with_tag = |chunk: &[u8]| [chunk, &[0; TAG]].concat();
    let mut batches: Vec<Vec<u8>> = memory.chunks_exact(len).map(with_tag).collect();
    raw(name, FOOTPRINT, move |watch| {
        for (number, batch) in batches.iter_mut().enumerate() {
            let (body, room) = batch.split_at_mut(len);
            let tag = key.seal_in_place_separate_tag(nonce(number), Aad::from(AAD), body);
            if let Ok(tag) = tag {
                room.copy_from_slice(tag.as_ref());
            }
        }
        let opened = watch.time(|| {
            let mut opened = 0;
            for (number, batch) in batches.iter_mut().enumerate() {
                let plain = key.open_in_place(nonce(number), Aad::from(AAD), batch);
                opened += plain.map_or(0, |plain| plain.len());
            }
            opened
        });
        assert_eq!(opened, FOOTPRINT, "ring opens what ring sealed");
    })
}

fn hash(name: &'static str, len: usize, digest: fn(&[u8]) -> u8) -> Case {
    let memory = guest::memory(FOOTPRINT);
    raw(name, FOOTPRINT, move |watch| {
        watch.time(|| {
            memory
                .chunks_exact(len)
                .map(digest)
                .fold(0, |all: u8, one| all ^ one)
        });
    })
}

fn compression(name: &'static str, len: usize) -> Option<Case> {
    let memory = guest::memory(FOOTPRINT);
    let mut zstd = zstd::bulk::Compressor::new(1).ok()?;
    let mut out = Vec::with_capacity(zstd::zstd_safe::compress_bound(len));
    Some(raw(name, FOOTPRINT, move |watch| {
        watch.time(|| {
            for chunk in memory.chunks_exact(len) {
                out.clear();
                std::hint::black_box(zstd.compress_to_buffer(chunk, &mut out).is_ok());
            }
        });
    }))
}
