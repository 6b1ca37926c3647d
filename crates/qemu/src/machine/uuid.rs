//! UUIDs as QEMU prints them.

/// `8-4-4-4-12` digits, in either case.
pub(super) fn parse(text: &str) -> Option<[u8; 16]> {
    const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
    if !text.split('-').map(str::len).eq(GROUPS) {
        return None;
    }
    let mut digits = text.chars().filter(|&character| character != '-');
    let mut uuid = [0; 16];
    for byte in &mut uuid {
        let value = digits.next()?.to_digit(16)? << 4 | digits.next()?.to_digit(16)?;
        *byte = u8::try_from(value).ok()?;
    }
    Some(uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_its_sixteen_bytes() {
        assert_eq!(
            parse("00112233-4455-6677-8899-aabbCCDDEEFF"),
            Some([
                0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd,
                0xee, 0xff
            ])
        );
        for wrong in [
            "",
            "00112233-4455-6677-8899-aabbccddeef",
            "0011223344556677-8899-aabb-ccdd-eeff",
            "00112233-4455-6677-8899-aabbccddeegg",
            "00112233-4455-6677-8899-aabbccddée",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
