//! What is noted of a main channel while its items go by.

use sealift::figures::uuid;
use sealift_stream::main_channel::{
    Command, Content, Emitter, Item, Page, Parser, Section, Setting,
};
use sealift_stream::{Cause, PageSize};

use super::census::{Census, Kind};
use super::device_state::DeviceState;
use super::lines::Lines;
use super::report::{MainReport, Opaque, SectionKind, SectionLine};

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
    /// The line of the section that the bytes going by belong to; none between sections.
    line: Option<usize>,
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
                self.line = None;
            }
            Item::Section(section) => self.section(section),
            Item::Block(block) => self.blocks.push((block.name.to_string(), block.used)),
            Item::MultifdFlush => self.multifd_flushes += 1,
            Item::EndOfStream => self.line = None,
            _ => {}
        }
        if let Some(line) = self.line.and_then(|line| self.sections.get_mut(line)) {
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
        let mut push = |line: String| {
            self.settings.push(line);
        };
        match setting {
            Setting::TargetPageSize(size) => push(format!("page size {}", size.bytes())),
            Setting::Capabilities(capabilities) => {
                capabilities
                    .iter()
                    .for_each(|name| push(format!("capability {name}")));
            }
            Setting::Uuid(bytes) => push(format!("uuid {}", uuid(bytes))),
        }
    }

    fn section(&mut self, section: &Section<'_>) {
        self.section_head.clone_from(&self.head);
        let (kind, id) = match section {
            Section::Start(described) => {
                let name = described.name.to_string();
                self.names.push((described.id, name));
                (SectionKind::Start, described.id)
            }
            Section::Full(described) => (SectionKind::Full, described.id),
            Section::Part(id) => (SectionKind::Part, *id),
            Section::End(id) => (SectionKind::End, *id),
        };
        // Parts come by the thousand, those of several devices in turn: one line for each device.
        if kind == SectionKind::Part
            && let Some((place, line)) = self.part(id)
        {
            line.count += 1;
            self.line = Some(place);
            return;
        }
        let name = match section {
            Section::Full(described) => described.name.to_string(),
            _ => self.name(id),
        };
        self.line = self.sections.push(SectionLine {
            kind,
            id,
            name,
            count: 1,
            bytes: 0,
        });
    }

    /// The line of this section's parts, if only parts have come since.
    fn part(&mut self, id: u32) -> Option<(usize, &mut SectionLine)> {
        let lines = self.sections.iter().enumerate().rev();
        let mut parts = lines.take_while(|(_, line)| line.kind == SectionKind::Part);
        let (place, _) = parts.find(|(_, line)| line.id == id)?;
        self.sections.get_mut(place).map(|line| (place, line))
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

/// A command as it is shown.
fn name(command: &Command<'_>) -> String {
    match command {
        Command::OpenReturnPath => "open-return-path".into(),
        Command::Ping(number) => format!("ping {number}"),
        Command::PostcopyAdvise(None) => "postcopy-advise".into(),
        Command::PostcopyAdvise(Some(advice)) => format!(
            "postcopy-advise (host pages {:#x}, target page {})",
            advice.host_pages, advice.target_page
        ),
        Command::PostcopyListen => "postcopy-listen".into(),
        Command::PostcopyRun => "postcopy-run".into(),
        Command::PostcopyRamDiscard(discard) => format!(
            "postcopy-ram-discard ({}, {} ranges)",
            discard.block,
            discard.ranges().len()
        ),
        Command::Packaged(bytes) => format!("packaged ({bytes} bytes)"),
        Command::EnableColo => "enable-colo".into(),
        Command::PostcopyResume => "postcopy-resume".into(),
        Command::RecvBitmap(block) => format!("recv-bitmap ({block})"),
        Command::SwitchoverStart => "switchover-start".into(),
    }
}
