//! A small shared object, made here byte by byte: no compiler is needed, and a test knows where every
//! field is. It has one of everything that `inspect` looks at, and glibc loads it (checked 2026-11).
//!
//! Three load segments, whose addresses run ahead of their offsets: tables (R), code (RX), data (RW).

use std::collections::BTreeMap;

/// A library and the file offsets of its parts.
#[derive(Clone)]
pub(crate) struct Library {
    pub(crate) bytes: Vec<u8>,
    at: BTreeMap<&'static str, usize>,
}

/// What differs between machines.
pub(crate) struct Codes {
    pub(crate) number: u16,
    pub(crate) ret: [u8; 4],
    pub(crate) relative: u32,
    pub(crate) address: u32,
    pub(crate) data: u32,
    pub(crate) slot: u32,
    pub(crate) tls_module: u32,
}

pub(crate) const X86_64: Codes = Codes {
    number: 62,
    ret: [0xc3, 0xcc, 0xcc, 0xcc],
    relative: 8,
    address: 1,
    data: 6,
    slot: 7,
    tls_module: 16,
};

pub(crate) const AARCH64: Codes = Codes {
    number: 183,
    ret: [0xc0, 0x03, 0x5f, 0xd6],
    relative: 1027,
    address: 257,
    data: 1025,
    slot: 1026,
    tls_module: 1028,
};

pub(crate) const PAGE: u64 = 0x1000;
pub(crate) const CODE: u64 = 0x1000;
/// Tables, code and data stand this far apart in the file; data lies one page further in memory.
const RELRO_OFFSET: usize = 0x2000;
const DATA_OFFSET: usize = 0x3000;
pub(crate) const RELRO: u64 = 0x3000;
pub(crate) const DATA: u64 = 0x4000;
const DATA_BYTES: usize = 0x80;

const STRINGS: &[u8] =
    b"\0libc.so.6\0GLIBC_2.18\0libfixture.so\0__cxa_thread_atexit_impl\0other\0root\0\
    call\0local\0/opt/plugins\0V1\0GLIBC_ABI_DT_RELR\0";
const SYMBOLS: u32 = 6;
const FIRST_HASHED: u32 = 3;

/// The dynamic table in order, and the names by which tests find entries.
const DYNAMIC: &[&str] = &[
    "needed",
    "soname",
    "runpath",
    "strtab",
    "strsz",
    "symtab",
    "syment",
    "hash",
    "rela",
    "relasz",
    "relaent",
    "relacount",
    "jmprel",
    "pltrelsz",
    "pltrel",
    "relr",
    "relrsz",
    "relrent",
    "init",
    "fini",
    "init_array",
    "init_arraysz",
    "fini_array",
    "fini_arraysz",
    "versym",
    "verneed",
    "verdef",
    "flags",
    "flags_1",
    "spare",
    "null",
];

impl Library {
    pub(crate) fn new(machine: &Codes) -> Self {
        let mut library = Self {
            bytes: vec![0; DATA_OFFSET + DATA_BYTES],
            at: BTreeMap::new(),
        };
        library.headers(machine);
        library.tables(machine);
        library.code(machine);
        library.data();
        library.dynamic();
        library
    }

    /// The same with the older hash table only.
    pub(crate) fn with_old_hash(machine: &Codes) -> Self {
        let mut library = Self::new(machine);
        let table = library.at("old_hash") as u64;
        library.tag("hash", 4, table);
        library
    }

    /// The file offset of a part.
    pub(crate) fn at(&self, part: &str) -> usize {
        *self
            .at
            .get(part)
            .unwrap_or_else(|| panic!("the fixture has no {part}"))
    }

    /// Every part, in order of offset.
    pub(crate) fn parts(&self) -> Vec<usize> {
        let mut parts: Vec<usize> = self.at.values().copied().collect();
        parts.sort_unstable();
        parts
    }

    pub(crate) fn put<const N: usize>(&mut self, offset: usize, value: [u8; N]) -> &mut Self {
        self.bytes[offset..offset + N].copy_from_slice(&value);
        self
    }

    pub(crate) fn put16(&mut self, offset: usize, value: u16) -> &mut Self {
        self.put(offset, value.to_ne_bytes())
    }

    pub(crate) fn put32(&mut self, offset: usize, value: u32) -> &mut Self {
        self.put(offset, value.to_ne_bytes())
    }

    pub(crate) fn put64(&mut self, offset: usize, value: u64) -> &mut Self {
        self.put(offset, value.to_ne_bytes())
    }

    /// Changes a field of a part, at an offset within it.
    pub(crate) fn set<const N: usize>(
        &mut self,
        part: &str,
        field: usize,
        value: [u8; N],
    ) -> &mut Self {
        self.put(self.at(part) + field, value)
    }

    pub(crate) fn set16(&mut self, part: &str, field: usize, value: u16) -> &mut Self {
        self.set(part, field, value.to_ne_bytes())
    }

    pub(crate) fn set32(&mut self, part: &str, field: usize, value: u32) -> &mut Self {
        self.set(part, field, value.to_ne_bytes())
    }

    pub(crate) fn set64(&mut self, part: &str, field: usize, value: u64) -> &mut Self {
        self.set(part, field, value.to_ne_bytes())
    }

    /// Changes the value of an entry of the dynamic table.
    pub(crate) fn value(&mut self, entry: &str, value: u64) -> &mut Self {
        self.put64(self.at(entry) + 8, value)
    }

    /// Changes an entry of the dynamic table.
    pub(crate) fn tag(&mut self, entry: &str, tag: u64, value: u64) -> &mut Self {
        self.put64(self.at(entry), tag).value(entry, value)
    }

    /// Takes an entry out: glibc ignores this tag.
    pub(crate) fn without(&mut self, entry: &str) -> &mut Self {
        self.put64(self.at(entry), 0x6000_0fff)
    }

    fn headers(&mut self, machine: &Codes) {
        self.put(0, *b"\x7fELF");
        self.put(
            4,
            [2, if cfg!(target_endian = "little") { 1 } else { 2 }, 1, 0],
        );
        self.put16(16, 3).put16(18, machine.number).put32(20, 1);
        self.put64(32, 64).put16(52, 64).put16(54, 56).put16(58, 64);
        let dynamic_bytes = (DYNAMIC.len() * 16) as u64;
        let relro = RELRO_OFFSET as u64;
        // Name, type, flags, offset, address, bytes in the file, in memory, alignment.
        let segments: [(&'static str, u32, u32, [u64; 5]); 10] = [
            ("PT_PHDR", 6, 4, [64, 64, 560, 560, 8]),
            ("tables", 1, 4, [0, 0, 0x800, 0x800, PAGE]),
            ("code", 1, 5, [CODE, CODE, 0x40, 0x40, PAGE]),
            (
                "data",
                1,
                6,
                [relro, RELRO, 0x1000 + DATA_BYTES as u64, 0x1200, PAGE],
            ),
            (
                "PT_DYNAMIC",
                2,
                6,
                [
                    relro + 0x100,
                    RELRO + 0x100,
                    dynamic_bytes,
                    dynamic_bytes,
                    8,
                ],
            ),
            ("PT_TLS", 7, 4, [relro, RELRO, 8, 0x20, 8]),
            (
                "PT_GNU_RELRO",
                0x6474_e552,
                4,
                [relro, RELRO, 0x1000, 0x1000, 1],
            ),
            ("PT_GNU_EH_FRAME", 0x6474_e550, 4, [0x700, 0x700, 8, 8, 4]),
            ("PT_GNU_STACK", 0x6474_e551, 6, [0, 0, 0, 0, 16]),
            ("PT_NOTE", 4, 4, [0x720, 0x720, 20, 20, 4]),
        ];
        self.put16(56, segments.len() as u16);
        for (number, (name, kind, flags, [offset, address, in_file, in_memory, align])) in
            segments.into_iter().enumerate()
        {
            let place = 64 + number * 56;
            self.at.insert(name, place);
            self.put32(place, kind)
                .put32(place + 4, flags)
                .put64(place + 8, offset);
            self.put64(place + 16, address)
                .put64(place + 32, in_file)
                .put64(place + 40, in_memory);
            self.put64(place + 48, align);
        }
    }

    fn tables(&mut self, machine: &Codes) {
        let places = [
            ("symtab_table", 0x280),
            ("strtab_table", 0x320),
            ("gnu_hash", 0x3c0),
            ("old_hash", 0x400),
            ("versym_table", 0x430),
            ("verneed_table", 0x440),
            ("verdef_table", 0x470),
            ("rela_table", 0x4c0),
            ("jmprel_table", 0x560),
            ("relr_table", 0x580),
            ("note", 0x720),
        ];
        self.at.extend(places);
        self.bytes[0x320..0x320 + STRINGS.len()].copy_from_slice(STRINGS);
        // Name, binding and type, section, value, size.
        self.symbol(1, "__cxa_thread_atexit_impl", 0x12, 0, (0, 0));
        self.symbol(2, "other", 0x20, 0, (0, 0));
        self.symbol(3, "root", 0x11, 7, (DATA, 8));
        self.symbol(4, "call", 0x12, 5, (CODE, 4));
        self.symbol(5, "local", 0x16, 8, (8, 8));
        self.hashes();
        for (number, version) in [0, 2, 1, 1, 3, 1].into_iter().enumerate() {
            self.put16(0x430 + number * 2, version);
        }
        self.versions();
        self.relocations(machine);
        self.put32(0x720, 4).put32(0x724, 4).put32(0x728, 3);
        self.put(0x72c, *b"GNU\0")
            .put(0x730, [0xde, 0xad, 0xbe, 0xef]);
    }

    fn symbol(
        &mut self,
        number: usize,
        name: &str,
        info: u8,
        section: u16,
        (value, size): (u64, u64),
    ) {
        let place = 0x280 + number * 24;
        self.at.insert(
            ["", "import", "weak", "root", "call", "local"][number],
            place,
        );
        self.put32(place, string(name))
            .put(place + 4, [info, 0])
            .put16(place + 6, section);
        self.put64(place + 8, value).put64(place + 16, size);
    }

    fn hashes(&mut self) {
        let names = ["root", "call", "local"].map(|name| object::elf::gnu_hash(name.as_bytes()));
        let bits = names.iter().fold(0u64, |bits, hash| {
            bits | 1 << (hash % 64) | 1 << ((hash >> 6) % 64)
        });
        self.put32(0x3c0, 1)
            .put32(0x3c4, FIRST_HASHED)
            .put32(0x3c8, 1)
            .put32(0x3cc, 6);
        self.put64(0x3d0, bits).put32(0x3d8, FIRST_HASHED);
        for (number, hash) in names.into_iter().enumerate() {
            let end = u32::from(number == 2);
            self.put32(0x3dc + number * 4, (hash & !1) | end);
        }
        // One bucket: 3, 4, 5, end.
        self.put32(0x400, 1).put32(0x404, SYMBOLS).put32(0x408, 3);
        for (number, next) in [0, 0, 0, 4, 5, 0].into_iter().enumerate() {
            self.put32(0x40c + number * 4, next);
        }
    }

    fn versions(&mut self) {
        self.put16(0x440, 1)
            .put16(0x442, 2)
            .put32(0x444, string("libc.so.6"))
            .put32(0x448, 16);
        self.put32(0x450, object::elf::hash(b"GLIBC_2.18"))
            .put16(0x456, 2);
        self.put32(0x458, string("GLIBC_2.18")).put32(0x45c, 16);
        // Without this one glibc opens no library that has DT_RELR.
        self.put32(0x460, object::elf::hash(b"GLIBC_ABI_DT_RELR"))
            .put16(0x466, 4);
        self.put32(0x468, string("GLIBC_ABI_DT_RELR"));
        for (place, flags, number, name, next) in
            [(0x470, 1, 1, "libfixture.so", 28), (0x48c, 0, 3, "V1", 0)]
        {
            self.put16(place, 1)
                .put16(place + 2, flags)
                .put16(place + 4, number)
                .put16(place + 6, 1);
            self.put32(place + 8, object::elf::hash(name.as_bytes()))
                .put32(place + 12, 20);
            self.put32(place + 16, next).put32(place + 20, string(name));
        }
    }

    fn relocations(&mut self, machine: &Codes) {
        let all = [
            ("rela_init", 0x4c0, RELRO + 0x10, machine.relative, 0, CODE),
            (
                "rela_fini",
                0x4d8,
                RELRO + 0x18,
                machine.relative,
                0,
                CODE + 4,
            ),
            ("rela_data", 0x4f0, DATA + 8, machine.relative, 0, DATA),
            ("rela_got", 0x508, RELRO + 0x400, machine.data, 2, 0),
            ("rela_tls", 0x520, RELRO + 0x408, machine.tls_module, 5, 0),
            ("rela_address", 0x538, DATA, machine.address, 3, 0),
            ("rela_call", 0x560, RELRO + 0x418, machine.slot, 1, 0),
        ];
        for (name, place, target, kind, symbol, addend) in all {
            self.at.insert(name, place);
            self.put64(place, target)
                .put64(place + 8, u64::from(kind) | symbol << 32);
            self.put64(place + 16, addend);
        }
        self.put64(0x580, DATA + 0x10).put64(0x588, 0b1011);
    }

    fn code(&mut self, machine: &Codes) {
        for place in (CODE as usize..CODE as usize + 0x40).step_by(4) {
            self.put(place, machine.ret);
        }
    }

    fn data(&mut self) {
        self.at.insert("tls_image", RELRO_OFFSET);
        self.at.insert("init_slot", RELRO_OFFSET + 0x10);
        self.put64(RELRO_OFFSET, 7);
        for place in [0x10, 0x18, 0x20] {
            self.put64(DATA_OFFSET + place, DATA);
        }
    }

    fn dynamic(&mut self) {
        let entries: [(u64, u64); DYNAMIC.len()] = [
            (1, string("libc.so.6").into()),
            (14, string("libfixture.so").into()),
            (29, string("/opt/plugins").into()),
            (5, 0x320),
            (10, STRINGS.len() as u64),
            (6, 0x280),
            (11, 24),
            (0x6fff_fef5, 0x3c0),
            (7, 0x4c0),
            (8, 6 * 24),
            (9, 24),
            (0x6fff_fff9, 3),
            (23, 0x560),
            (2, 24),
            (20, 7),
            (36, 0x580),
            (35, 16),
            (37, 8),
            (12, CODE),
            (13, CODE),
            (25, RELRO + 0x10),
            (27, 8),
            (26, RELRO + 0x18),
            (28, 8),
            (0x6fff_fff0, 0x430),
            (0x6fff_fffe, 0x440),
            (0x6fff_fffc, 0x470),
            (30, 8),
            (0x6fff_fffb, 1),
            (0x6000_0fff, 0),
            (0, 0),
        ];
        for (number, (name, (tag, value))) in DYNAMIC.iter().zip(entries).enumerate() {
            let place = RELRO_OFFSET + 0x100 + number * 16;
            self.at.insert(name, place);
            self.put64(place, tag).put64(place + 8, value);
        }
    }
}

/// The offset of a string in the table.
pub(crate) fn string(name: &str) -> u32 {
    let wanted = [b"\0", name.as_bytes(), b"\0"].concat();
    let place = STRINGS
        .windows(wanted.len())
        .position(|window| window == wanted);
    place.unwrap_or_else(|| panic!("the fixture has no string {name}")) as u32 + 1
}
