//! The two kinds of device state that stand before or between RAM pages, and are parsed so that these are reached.

use super::item::{Described, Item, VfioMark, VirtioMem};
use super::{After, Place, Reader};
use crate::cursor::{Cursor, Read, malformed, unknown};

/// The version of VFIO's sections.
pub(super) const VFIO_VERSION: u32 = 1;

/// VFIO's marks within a section.
pub(super) mod vfio_mark {
    pub(in super::super) const END: u64 = 0xffff_ffff_ef10_0001;
    pub(in super::super) const SETUP: u64 = 0xffff_ffff_ef10_0003;
    pub(in super::super) const DATA: u64 = 0xffff_ffff_ef10_0004;
    pub(in super::super) const INITIAL_DATA_SENT: u64 = 0xffff_ffff_ef10_0005;
}

/// Whether a section is virtio-mem's early one, which comes during set-up with machine types newer than 7.2's.
pub(super) fn is_virtio_mem_early(section: &Described<'_>) -> bool {
    section.version == 1
        && section
            .name
            .as_bytes()
            .ends_with(b"virtio-mem-device-early")
}

impl Reader {
    pub(super) fn vfio_mark<'a>(&mut self, cursor: &mut Cursor<'a>) -> Read<Item<'a>> {
        let at = cursor.offset();
        let mark = match cursor.be64()? {
            vfio_mark::SETUP => VfioMark::Setup,
            vfio_mark::DATA => {
                let size = cursor.be64()?;
                self.enter_blob(size, After::Vfio);
                VfioMark::Data(size)
            }
            // This one ends a body in place of the other.
            vfio_mark::INITIAL_DATA_SENT => {
                self.place = Place::Sections;
                VfioMark::InitialDataSent
            }
            vfio_mark::END => {
                self.place = Place::Sections;
                VfioMark::End
            }
            mark => return Err(unknown(at, "a mark of VFIO", mark)),
        };
        Ok(Item::Vfio(mark))
    }

    pub(super) fn virtio_mem<'a>(&mut self, cursor: &mut Cursor<'a>) -> Read<Item<'a>> {
        let at = cursor.offset();
        let device = VirtioMem {
            address: cursor.be64()?,
            region: cursor.be64()?,
            block: cursor.be64()?,
            node: cursor.be32()?,
            plugged: cursor.be64()?,
        };
        let bitmap = device
            .bitmap_len()
            .ok_or_else(|| malformed(at, "a virtio-mem block size", device.block))?;
        self.enter_blob(bitmap, After::Sections);
        Ok(Item::VirtioMem(device))
    }
}
