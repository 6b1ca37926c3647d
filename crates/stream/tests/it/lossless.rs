//! `emit(parse(x)) == x` for every input, in whatever pieces it comes.

use crate::support::{Channel, Main, Multifd, Return, Writer, run};
use proptest::prelude::*;
use sealift_stream::{PageSize, multifd};

fn multifd() -> Multifd {
    Multifd(multifd::Parser::new(PageSize::KIB_4))
}

fn lossless<C: Channel>(
    new: impl Fn() -> C,
    input: &[u8],
    pieces: &[usize],
) -> Result<(), TestCaseError> {
    let whole = run(new(), input, &[]);
    prop_assert_eq!(&whole.emitted[..], input);
    let cut = run(new(), input, pieces);
    prop_assert_eq!(&cut.emitted[..], input);
    prop_assert_eq!(whole.items, cut.items);
    prop_assert_eq!(whole.surprise, cut.surprise);
    Ok(())
}

/// Steps of a main channel that has announced its RAM, mostly legal ones.
#[derive(Clone, Debug)]
enum Step {
    Part,
    Named(u64, bool, u8),
    Same(u64, u8),
    Zero(u64),
    Xbzrle(u64, Vec<u8>),
    End,
    Footer,
    Flush,
    Ping,
    Package(Vec<u8>),
    Advise,
    Stray(Vec<u8>),
    Device,
}

fn step() -> impl Strategy<Value = Step> {
    let page = || (0u64..4).prop_map(|page| page * 4096);
    prop_oneof![
        4 => Just(Step::Part),
        4 => (page(), any::<bool>(), any::<u8>()).prop_map(|(at, a, fill)| Step::Named(at, a, fill)),
        4 => (page(), any::<u8>()).prop_map(|(at, fill)| Step::Same(at, fill)),
        4 => page().prop_map(Step::Zero),
        2 => (page(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(at, delta)| Step::Xbzrle(at, delta)),
        4 => Just(Step::End),
        4 => Just(Step::Footer),
        1 => Just(Step::Flush),
        1 => Just(Step::Ping),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Step::Package),
        1 => Just(Step::Advise),
        1 => prop::collection::vec(any::<u8>(), 1..20).prop_map(Step::Stray),
        1 => Just(Step::Device),
    ]
}

fn written(steps: Vec<Step>) -> Vec<u8> {
    let start = Writer::with_ram(&[("a", 16384), ("b", 16384)])
        .end_of_ram()
        .footer(2);
    steps
        .into_iter()
        .fold(start, |writer, step| match step {
            Step::Part => writer.part(2),
            Step::Named(at, a, fill) => writer.page(at, Some(if a { "a" } else { "b" }), fill),
            Step::Same(at, fill) => writer.page(at, None, fill),
            Step::Zero(at) => writer.zero(at, Some("a")),
            Step::Xbzrle(at, delta) => writer
                .be64(at | 0x40)
                .name("b")
                .bytes(&[1])
                .be16(delta.len())
                .bytes(&delta),
            Step::End => writer.end_of_ram(),
            Step::Footer => writer.footer(2),
            Step::Flush => writer.be64(0x200),
            Step::Ping => writer.command(2, &[0, 0, 0, 1]),
            Step::Package(blob) => writer
                .command(7, &u32::try_from(blob.len()).unwrap().to_be_bytes())
                .bytes(&blob),
            Step::Advise => writer.command(3, &[]),
            Step::Stray(bytes) => writer.bytes(&bytes),
            Step::Device => writer.section(4, 7, "timer", 2).bytes(b"state"),
        })
        .0
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_main_channel_survives_anything(
        input in prop::collection::vec(any::<u8>(), 0..300),
        pieces in prop::collection::vec(1usize..40, 1..5),
    ) {
        lossless(Main::default, &input, &pieces)?;
        let behind_the_header: Vec<u8> = Writer::with_ram(&[("a", 16384)]).bytes(&input).0;
        lossless(Main::default, &behind_the_header, &pieces)?;
    }

    #[test]
    fn the_main_channel_survives_likely_streams(
        steps in prop::collection::vec(step(), 0..30),
        pieces in prop::collection::vec(1usize..9000, 1..5),
    ) {
        lossless(Main::default, &written(steps), &pieces)?;
    }

    #[test]
    fn the_main_channel_survives_damage(
        steps in prop::collection::vec(step(), 1..12),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        pieces in prop::collection::vec(1usize..9000, 1..5),
    ) {
        let mut input = written(steps);
        for (place, bits) in flips {
            let place = place.index(input.len());
            input[place] ^= bits;
        }
        input.truncate(cut.index(input.len()) + 1);
        lossless(Main::default, &input, &pieces)?;
    }

    #[test]
    fn a_multifd_channel_survives_anything(
        input in prop::collection::vec(any::<u8>(), 0..300),
        pieces in prop::collection::vec(1usize..40, 1..5),
    ) {
        lossless(multifd, &input, &pieces)?;
        let hello = Writer::default().be32(0x1122_3344).be32(1).bytes(&[0; 56]);
        lossless(multifd, &hello.bytes(&input).0, &pieces)?;
    }

    #[test]
    fn a_multifd_channel_survives_likely_packets(
        packets in prop::collection::vec((0usize..8, 0usize..3, 0usize..3, 0usize..70), 0..4),
        pieces in prop::collection::vec(1usize..9000, 1..5),
    ) {
        let mut stream = Writer::default().be32(0x1122_3344).be32(1).bytes(&[0; 56]);
        for (flags, normal, zero, compressed) in packets {
            let payload = if flags & 6 == 0 { normal * 4096 } else { compressed };
            stream = stream
                .be32(0x1122_3344).be32(1).be32(flags).be32(128).be32(normal).be32(payload)
                .be64(1).be32(zero).bytes(&[0; 28 + 256]).bytes(&[0; 1024])
                .bytes(&vec![0x5a; if normal == 0 { 0 } else { payload }]);
        }
        lossless(multifd, &stream.0, &pieces)?;
    }

    #[test]
    fn a_return_path_survives_anything(
        input in prop::collection::vec(prop_oneof![Just(0u8), 0u8..9, any::<u8>()], 0..300),
        pieces in prop::collection::vec(1usize..40, 1..5),
    ) {
        lossless(Return::default, &input, &pieces)?;
    }
}
