//! What is noted of a main channel while its items go by.

use sealift_stream::main_channel::{
    Command, Content, Emitter, Item, Page, Parser, Section, Setting,
};
use sealift_stream::{Cause, PageSize};

use super::census::{Census, Kind};
use super::device_state::DeviceState;
use super::lines::Lines;
use super::report::{MainReport, Opaque, SectionKind, SectionLine, uuid};

/// Notes on a main channel.
#[derive(Default)]
pub(super) struct MainSurvey {
    machine: Option<String>,
    settings: Lines<String>,
    commands: Lines<String>,
    sections: Lines<SectionLine>,
    /// Names of the sections that have several parts, by id.
    names: Vec<(u32, String)>,
    blocks: Vec<(String, u64)>,
    census: Census,
    multifd_flushes: u64,
    device_state: Option<DeviceState>,
    opaque_bytes: u64,
    /// Whether the bytes going by belong to the last section, not to a command.
    in_section: bool,
    emitter: Emitter,
    /// The bytes of the last item, but for its page or blob.
    head: Vec<u8>,
    /// Those of the last section's start, which device state begins with.
    section_head: Vec<u8>,
}

impl MainSurvey {
    pub(super) fn item(&mut self, item: &Item<'_>, parser: &Parser) {
        self.head.clear();
        let payload = self.emitter.emit_head(item, &mut self.head);
        let bytes = (self.head.len() + payload.len()) as u64;
        match item {
            Item::Page(page) => self.page(page, parser.page_size()),
            Item::Opaque(bytes) => return self.opaque(bytes, parser),
            Item::Configuration(machine) => self.machine = Some(machine.to_string()),
            Item::Setting(setting) => self.setting(setting),
            Item::Command(command) => {
                self.commands.push(name(command));
                self.in_section = false;
            }
            Item::Section(section) => self.section(section),
            Item::Block(block) => self.blocks.push((block.name.to_string(), block.used)),
            Item::MultifdFlush => self.multifd_flushes += 1,
            Item::EndOfStream => self.in_section = false,
            _ => {}
        }
        if self.in_section
            && let Some(line) = self.sections.last_mut()
        {
            line.bytes += bytes;
        }
    }

    fn page(&mut self, page: &Page<'_>, page_size: Option<PageSize>) {
        let bytes = page_size.unwrap_or(PageSize::KIB_4).bytes() as u64;
        let kind = match page.content {
            Content::Zero => Kind::Zero,
            Content::Whole(bytes) => Kind::Literal(bytes),
            Content::Xbzrle(_) => Kind::Xbzrle,
            Content::Zlib(_) => Kind::Compressed,
        };
        let (block, number) = (page.block.index(), page.offset / bytes);
        self.census.walk(block, number);
        self.census.record(block, number, kind);
    }

    fn setting(&mut self, setting: &Setting<'_>) {
        match setting {
            Setting::TargetPageSize(size) => {
                self.settings.push(format!("page size {}", size.bytes()));
            }
            Setting::Capabilities(capabilities) => {
                for name in capabilities.iter() {
                    self.settings.push(format!("capability {name}"));
                }
            }
            Setting::Uuid(bytes) => self.settings.push(format!("uuid {}", uuid(bytes))),
        }
    }

    fn section(&mut self, section: &Section<'_>) {
        let (kind, id, name) = match section {
            Section::Start(described) => {
                self.names.push((described.id, described.name.to_string()));
                (SectionKind::Start, described.id, described.name.to_string())
            }
            Section::Full(described) => {
                (SectionKind::Full, described.id, described.name.to_string())
            }
            Section::Part(id) => (SectionKind::Part, *id, self.name(*id)),
            Section::End(id) => (SectionKind::End, *id, self.name(*id)),
        };
        self.section_head.clone_from(&self.head);
        self.in_section = true;
        match self.sections.last_mut() {
            // Parts come by the thousand.
            Some(last) if last.kind == kind && last.id == Some(id) => last.count += 1,
            _ => self.sections.push(SectionLine {
                kind,
                id: Some(id),
                name,
                count: 1,
                bytes: 0,
            }),
        }
    }

    fn name(&self, id: u32) -> String {
        let name = self.names.iter().find(|(known, _)| *known == id);
        name.map(|(_, name)| name.clone()).unwrap_or_default()
    }

    fn opaque(&mut self, bytes: &[u8], parser: &Parser) {
        let is_device_state = parser
            .surprise()
            .is_some_and(|surprise| surprise.cause == Cause::DeviceState);
        if is_device_state {
            let head = &self.section_head;
            let sections = &mut self.sections;
            let state = self.device_state.get_or_insert_with(|| {
                // The section that device state begins with was taken for one of the stream's; it is counted there.
                sections.pop();
                let mut state = DeviceState::default();
                state.push(head);
                state
            });
            state.push(bytes);
        } else {
            self.opaque_bytes += bytes.len() as u64;
        }
    }

    pub(super) fn report(self, parser: &Parser) -> MainReport {
        let blocks = self.blocks.into_iter();
        let ram = self
            .census
            .report(blocks.map(|(name, bytes)| (name, Some(bytes))));
        let device_state = self.device_state.map(|state| state.report());
        MainReport {
            bytes: parser.offset(),
            machine: self.machine,
            page_size: parser.page_size().map(PageSize::bytes),
            settings: self.settings,
            commands: self.commands,
            sections: self.sections,
            ram,
            multifd_flushes: self.multifd_flushes,
            device_state,
            opaque: Opaque::of(parser.surprise(), self.opaque_bytes),
        }
    }
}

/// A command in short: a list of ranges may be long.
fn name(command: &Command<'_>) -> String {
    match command {
        Command::PostcopyRamDiscard(discard) => {
            let ranges = discard.ranges().len();
            format!("PostcopyRamDiscard({}, {ranges} ranges)", discard.block)
        }
        Command::RecvBitmap(block) => format!("RecvBitmap({block})"),
        Command::Packaged(bytes) => format!("Packaged({bytes} bytes)"),
        other => format!("{other:?}"),
    }
}
