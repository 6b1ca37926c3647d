//! What holds for every message, every chunking, and every string of bytes.

use std::time::Duration;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use sealift_pages::PageSize;
use sealift_session::control::{
    Admission, BatchRange, BatchRanges, Bytes, Choice, Decoder, Destination, Direction, Distinct,
    Epoch, ErrorKind, Failure, Fault, Frame, Hello, LaneCount, LaneToken, LaneTokens, Message,
    MirrorBudget, Offer, Placing, Pong, RamBlock, RamBlocks, RefusalKind, Refused, Resume, Role,
    RunState, SessionId, Shares, StageChange, Text, Verdict, Verification, wire,
};

use super::accepted;

fn text<const MAX: usize>() -> impl Strategy<Value = Text<MAX>> {
    "\\PC{1,60}".prop_map(|text| Text::new("", text).unwrap())
}

fn bytes<const MIN: usize, const MAX: usize>() -> impl Strategy<Value = Bytes<MIN, MAX>> {
    vec(any::<u8>(), MIN..=MAX.min(MIN + 300)).prop_map(|bytes| Bytes::new("", bytes).unwrap())
}

/// Numbers in any order, each once.
fn distinct<T, const MIN: usize>() -> impl Strategy<Value = Distinct<T, MIN>>
where
    T: Arbitrary + Copy + Into<u32> + TryFrom<u32> + Ord + 'static,
{
    let not_zero = any::<T>().prop_filter("0 is no number", |&number| number.into() != 0);
    btree_set(not_zero, MIN..=16)
        .prop_map(|numbers| numbers.into_iter().collect::<Vec<_>>())
        .prop_shuffle()
        .prop_map(|numbers| Distinct::new("", numbers).unwrap())
}

fn lanes() -> impl Strategy<Value = LaneCount> {
    (1u32..=256).prop_map(|lanes| LaneCount::new("", lanes).unwrap())
}

fn mirror() -> impl Strategy<Value = MirrorBudget> {
    let budget = || 0u64..=1 << 40;
    (budget(), budget(), budget())
        .prop_map(|(slots, bases, windows)| MirrorBudget::new(slots, bases, windows).unwrap())
}

fn hello() -> impl Strategy<Value = Hello> {
    let role = prop::sample::select(Role::ALL);
    (
        distinct(),
        role,
        any::<[u8; 16]>(),
        any::<bool>(),
        prop::option::of(text()),
        text(),
    )
        .prop_map(
            |(wire_versions, role, session, resume, software, name)| Hello {
                wire_versions,
                role,
                session: SessionId(session),
                resume,
                software,
                peer_name: (role == Role::Source).then_some(name),
            },
        )
}

fn offer() -> impl Strategy<Value = Offer> {
    // SHA-256 is always among the digests.
    let digests = prop::sample::subsequence(vec![2u8, 3, 9, 255], 0..=4).prop_map(|mut digests| {
        digests.insert(digests.len() / 2, 1);
        Distinct::new("", digests).unwrap()
    });
    let page_size = (12u32..=16).prop_map(|shift| PageSize::new(1 << shift).unwrap());
    (
        distinct(),
        digests,
        distinct(),
        lanes(),
        page_size,
        mirror(),
        any::<bool>(),
        0..=86_400_000u64,
    )
        .prop_map(
            |(suites, digests, codecs, lanes, page_size, mirror, verify_full, resume)| Offer {
                suites,
                digests,
                codecs,
                lanes,
                page_size,
                mirror,
                verify_full,
                resume_for: Duration::from_millis(resume),
            },
        )
}

fn choice() -> impl Strategy<Value = Choice> {
    let destination = (any::<bool>(), any::<bool>(), prop::option::of(text())).prop_map(
        |(managed, switchover_ack, qemu)| Destination {
            managed,
            switchover_ack,
            qemu,
        },
    );
    (
        any::<u16>(),
        any::<u8>(),
        distinct(),
        lanes(),
        mirror(),
        destination,
    )
        .prop_map(
            |(suite, digest, codecs, lanes, mirror, destination)| Choice {
                suite,
                digest,
                codecs,
                lanes,
                mirror,
                destination,
            },
        )
}

fn admission() -> impl Strategy<Value = Admission> {
    let block = (1u64..1 << 35, 12u32..=30);
    let blocks =
        prop::collection::btree_map(vec(any::<u8>(), 1..40), block, 0..20).prop_map(|blocks| {
            let block = |(name, (pages, shift)): (Vec<u8>, (u64, u32))| {
                RamBlock::new(Bytes::new("", name).unwrap(), pages << 12, 1 << shift).unwrap()
            };
            RamBlocks::new(blocks.into_iter().map(block).collect()).unwrap()
        });
    (text(), any::<[u8; 16]>(), text(), blocks, any::<u64>()).prop_map(
        |(name, uuid, machine, blocks, memory_needed)| Admission {
            name,
            uuid,
            machine,
            blocks,
            memory_needed,
        },
    )
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        any::<u64>().prop_map(|memory_free| Verdict::Accepted { memory_free }),
        (prop::sample::select(RefusalKind::ALL), text())
            .prop_map(|(kind, explanation)| Verdict::Refused(Refused { kind, explanation })),
    ]
}

fn ranges() -> impl Strategy<Value = BatchRanges> {
    vec((2u64..1000, 0u64..1000), 1..40).prop_map(|steps| {
        let mut next = 0;
        let range = |(gap, more)| {
            let first = next + gap - 1;
            next = first + more + 1;
            BatchRange::new(first, first + more).unwrap()
        };
        BatchRanges::new("", steps.into_iter().map(range).collect()).unwrap()
    })
}

fn resume() -> impl Strategy<Value = Resume> {
    (any::<u64>(), any::<u64>(), vec(any::<u8>(), 0..40)).prop_map(|(heard, lowest, seen)| Resume {
        heard,
        lowest,
        seen: Bytes::new("", seen).unwrap(),
    })
}

fn tokens() -> impl Strategy<Value = LaneTokens> {
    prop::collection::btree_map(any::<u8>(), any::<[u8; 32]>(), 1..20).prop_map(|tokens| {
        let token = |(lane, token): (u8, [u8; 32])| LaneToken::new(lane, token.into());
        LaneTokens::new(tokens.into_iter().map(token).collect()).unwrap()
    })
}

fn failure() -> impl Strategy<Value = Failure> {
    (
        prop::sample::select(ErrorKind::ALL),
        prop::sample::select(Fault::ALL),
        text(),
    )
        .prop_map(|(kind, fault, message)| Failure {
            kind,
            fault,
            message,
        })
}

fn stage_change() -> impl Strategy<Value = StageChange> {
    let drained = (any::<u64>(), any::<[u8; 32]>());
    prop_oneof![
        Just(StageChange::PreCopy),
        any::<u64>().prop_map(|stopped_ns| StageChange::StopAndCopy { stopped_ns }),
        drained.prop_map(|(batches, version_map)| StageChange::Drained {
            batches,
            version_map
        }),
        drained.prop_map(|(batches, version_map)| StageChange::Prepared {
            batches,
            version_map
        }),
        Just(StageChange::Intent),
        prop::sample::select(RunState::ALL).prop_map(|run_state| StageChange::Commit { run_state }),
        any::<u64>().prop_map(|resumed_ns| StageChange::Active { resumed_ns }),
        Just(StageChange::Done),
        failure().prop_map(StageChange::Abort),
        Just(StageChange::Aborted),
    ]
}

fn epoch() -> impl Strategy<Value = Epoch> {
    let direction = prop::sample::select(Direction::ALL);
    let numbers = (any::<u8>(), any::<u32>(), 0u32..=1 << 31);
    (direction, numbers).prop_map(|(direction, (lane, epoch, sealed))| {
        let told = direction == Direction::SourceToReceiver && epoch > 0;
        Epoch::new(lane, direction, epoch, if told { sealed } else { 0 }).unwrap()
    })
}

fn message() -> impl Strategy<Value = Message> {
    let shares = (bytes(), bytes()).prop_map(|(ecdh, mlkem)| Shares { ecdh, mlkem });
    let progress =
        any::<[u64; 3]>().prop_map(|[pages, bytes, held]| wire::Progress { pages, bytes, held });
    let placing = btree_set(0u16..1024, 1..20)
        .prop_map(|blocks| Placing::new(blocks.into_iter().collect()).unwrap());
    let ping = any::<[u64; 3]>().prop_map(|[id, sent_ns, heard]| wire::Ping { id, sent_ns, heard });
    let pong = any::<[u64; 3]>()
        .prop_map(|[id, one, other]| Pong::new(id, one.min(other), one.max(other)).unwrap());
    let verification =
        (any::<[u8; 32]>(), any::<u64>(), any::<u32>()).prop_map(|(digest, bytes, ranges)| {
            Verification {
                digest,
                bytes,
                ranges,
            }
        });
    prop_oneof![
        hello().prop_map(Message::Hello),
        offer().prop_map(Message::Offer),
        choice().prop_map(Message::Choice),
        admission().prop_map(Message::Admission),
        verdict().prop_map(Message::Verdict),
        shares.prop_map(Message::Shares),
        any::<[u8; 32]>().prop_map(Message::Confirmation),
        tokens().prop_map(Message::LaneTokens),
        ranges().prop_map(Message::Acknowledgement),
        resume().prop_map(Message::Resume),
        stage_change().prop_map(Message::StageChange),
        bytes().prop_map(Message::ReturnPath),
        progress.prop_map(Message::Progress),
        placing.prop_map(Message::Placing),
        ping.prop_map(Message::Ping),
        pong.prop_map(Message::Pong),
        epoch().prop_map(Message::Epoch),
        verification.prop_map(Message::Verification),
        failure().prop_map(Message::Failure),
    ]
}

proptest! {
    #[test]
    fn every_message_comes_back_under_any_chunking(
        messages in vec(message(), 1..6), chunks in vec(1usize..200, 1..20),
    ) {
        let frames: Vec<_> = messages.iter().cloned().map(Frame::of).collect();
        let stream: Vec<u8> = frames.iter().flat_map(|frame| frame.as_bytes()).copied().collect();
        let mut decoder = accepted();
        let mut received = vec![];
        let mut rest = stream.as_slice();
        for len in chunks.iter().copied().cycle() {
            let (mut chunk, behind) = rest.split_at(len.min(rest.len()));
            while let Some(message) = decoder.next(&mut chunk).unwrap() {
                received.push(message);
            }
            prop_assert!(chunk.is_empty());
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(received.len(), messages.len());
        for ((received, message), frame) in received.iter().zip(&messages).zip(&frames) {
            prop_assert_eq!(&received.message, message);
            prop_assert_eq!(&received.envelope[..], frame.envelope());
        }
    }

    #[test]
    fn the_first_messages_keep_to_the_small_limit(hello in hello(), failure in failure()) {
        for message in [Message::Hello(hello), Message::Failure(failure)] {
            let frame = Frame::of(message);
            prop_assert!(Decoder::new().next(&mut frame.as_bytes()).unwrap().is_some());
        }
    }

    #[test]
    fn noise_never_panics(bytes in vec(any::<u8>(), 0..400)) {
        let mut input = bytes.as_slice();
        while let Ok(Some(_)) = accepted().next(&mut input) {}
        // With a true length the noise reaches further.
        let mut framed = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
        framed.extend(&bytes);
        let _ = accepted().next(&mut framed.as_slice());
    }

    #[test]
    fn what_is_accepted_after_a_change_can_be_said_again(
        message in message(), at: prop::sample::Index, flip in 1u8..,
    ) {
        let mut bytes = Frame::of(message).as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(Some(received)) = accepted().next(&mut bytes.as_slice()) {
            let again = Frame::of(received.message.clone());
            let twice = accepted().next(&mut again.as_bytes()).unwrap().unwrap();
            prop_assert_eq!(twice.message, received.message);
        }
    }
}
