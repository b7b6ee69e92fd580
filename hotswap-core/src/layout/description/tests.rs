//! Checks the descriptions that abi_stable has made for this program: unchanged, and with every bit changed in turn.

use std::{cell::RefCell, collections::BTreeMap, fs, mem, ops::Range, ptr};

use abi_stable::{
    StableAbi,
    library::{CheckTypeLayout, LibHeader, RootModule, RootModuleResult},
    package_version_strings,
    sabi_types::VersionStrings,
    std_types::{RBox, RHashMap, ROption, RSlice, RStr, RString, RVec},
    tag,
    type_layout::{Tag, TypeLayout},
};

use super::{
    Damaged, Memory, Walk,
    format::{Shared, Type},
    reader::Reader,
};

/// The mappings of this process, in which a test can let a byte appear changed.
struct Overlay {
    readable: Vec<Range<usize>>,
    code: Vec<Range<usize>>,
    changed: BTreeMap<usize, u8>,
    read: RefCell<Vec<Range<usize>>>,
    /// The functions that were called, and their results.
    called: RefCell<BTreeMap<usize, usize>>,
    may_call: bool,
}

impl Overlay {
    fn of_this_process() -> Self {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let program = std::env::current_exe().unwrap();
        let ranges = |flag: char| {
            let lines = maps
                .lines()
                .filter(|line| line.ends_with(&*program.to_string_lossy()));
            let wanted = lines.filter(|line| line.split(' ').nth(1).unwrap().contains(flag));
            let range = |line: &str| {
                let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
                let number = |text| usize::from_str_radix(text, 16).unwrap();
                number(start)..number(end)
            };
            wanted.map(range).collect()
        };
        Self {
            readable: ranges('r'),
            code: ranges('x'),
            changed: BTreeMap::new(),
            read: RefCell::default(),
            called: RefCell::default(),
            may_call: true,
        }
    }

    fn check(&self, layout: &'static TypeLayout) -> Result<(), Damaged> {
        Walk::over(self, ptr::from_ref(layout).addr())
    }

    fn check_header(&self) -> Result<(), Damaged> {
        Walk::new(self).header((&raw const HEADER).addr())
    }

    /// Checks descriptions that together use every structure, and a header.
    fn check_all(&self) -> Result<(), Damaged> {
        let both = self
            .check(Parameterised::<u8, 7>::LAYOUT)
            .and(self.check(Choice::LAYOUT));
        both.and(self.check(Open_NE::LAYOUT))
            .and(self.check_header())
    }

    /// Lets this byte, and no other, appear changed. From now on no function is called that was not called before.
    fn change(&mut self, address: usize, how: impl FnOnce(u8) -> u8) {
        self.may_call = false;
        self.changed.clear();
        let byte = self.byte(address);
        self.changed.insert(address, how(byte));
        self.read.borrow_mut().clear();
    }

    fn byte(&self, address: usize) -> u8 {
        let from: *const u8 = ptr::with_exposed_provenance(address);
        let changed = self.changed.get(&address).copied();
        // SAFETY: callers pass an address in the program's own file, which stays mapped.
        changed.unwrap_or_else(|| unsafe { from.read_volatile() })
    }

    fn word(&self, address: usize) -> usize {
        let bytes = [0, 1, 2, 3, 4, 5, 6, 7].map(|index| self.byte(address + index));
        usize::from_ne_bytes(bytes)
    }

    /// The address of the pointer to a type's first const parameter.
    fn constant_of(&self, layout: &'static TypeLayout) -> usize {
        let reader = Reader(self);
        let described: Type = reader.item(ptr::from_ref(layout).addr()).unwrap();
        let shared: Shared = reader.item(described.shared).unwrap();
        assert!(shared.constants_len > 0);
        shared.constants
    }

    fn leads_somewhere(&self, address: usize) -> bool {
        self.readable.iter().any(|range| range.contains(&address))
    }

    /// The address of every byte that was read, without duplicates.
    fn bytes_read(&self) -> Vec<usize> {
        let mut bytes: Vec<usize> = self.read.borrow().iter().cloned().flatten().collect();
        bytes.sort_unstable();
        bytes.dedup();
        bytes
    }
}

impl Memory for Overlay {
    fn read(&self, address: usize, into: &mut [u8]) -> bool {
        let Some(end) = address.checked_add(into.len()) else {
            return false;
        };
        let holds = |range: &Range<usize>| range.start <= address && end <= range.end;
        if !self.readable.iter().any(holds) {
            return false;
        }
        self.read.borrow_mut().push(address..end);
        let from: *const u8 = ptr::with_exposed_provenance(address);
        // SAFETY: `readable` lists the program's own file, which stays mapped.
        unsafe { ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) };
        for (at, byte) in self.changed.range(address..end) {
            into[at - address] = *byte;
        }
        true
    }

    fn is_code(&self, address: usize) -> bool {
        self.code.iter().any(|range| range.contains(&address))
    }

    fn call(&self, function: usize) -> usize {
        if let Some(given) = self.called.borrow().get(&function) {
            return *given;
        }
        if !self.may_call {
            // The changed byte leads to another address in the code; calling it could do anything.
            return 0;
        }
        // SAFETY: no byte appears changed, so this is one of abi_stable's functions that return a description.
        let call = unsafe { mem::transmute::<usize, extern "C" fn() -> usize>(function) };
        let given = call();
        self.called.borrow_mut().insert(function, given);
        given
    }
}

#[repr(C)]
#[derive(StableAbi)]
struct Parameterised<'a, 'b, T, const N: usize> {
    one: &'a T,
    two: &'b [u8; N],
    function: extern "C" fn(RStr<'a>, u8, u16, u32, u64, ROption<u8>, RString) -> RVec<u8>,
}

const TAG: Tag = tag! {{ "an array" => tag![[1, true, "three"]], "a set" => tag! {{1, 2}} }};

#[repr(u8)]
#[derive(StableAbi)]
#[sabi(tag = TAG)]
enum Choice {
    None,
    Some {
        number: u64,
        again: ROption<RBox<Choice>>,
    },
}

#[repr(u8)]
#[derive(StableAbi)]
#[sabi(kind(WithNonExhaustive(size = 64)))]
#[non_exhaustive]
enum Open {
    One,
    Two(u32),
}

/// A type whose layout has extra checks: what a trait object can do.
#[abi_stable::sabi_trait]
trait Object: Clone + Debug {
    fn call(&self, text: RStr<'_>) -> RString;
}

#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = AllRef)))]
#[sabi(missing_field(panic))]
struct All {
    parameterised: extern "C" fn(Parameterised<'_, 'static, u32, 7>),
    choice: extern "C" fn(&Choice) -> RHashMap<RString, u64>,
    #[sabi(last_prefix_field)]
    open: extern "C" fn(Open_NE),
    object: extern "C" fn(Object_TO<'static, RBox<()>>),
}

impl RootModule for AllRef {
    abi_stable::declare_root_module_statics! {AllRef}
    const BASE_NAME: &'static str = "all";
    const NAME: &'static str = "all";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

extern "C" fn never_called() -> RootModuleResult {
    unreachable!("a header is looked at, and not used")
}

// SAFETY: no code creates a root module of this type.
static HEADER: LibHeader =
    unsafe { LibHeader::from_constructor::<AllRef>(never_called, CheckTypeLayout::Yes) };

#[test]
fn what_abi_stable_has_made_is_whole() {
    let memory = Overlay::of_this_process();
    assert_eq!(memory.check(AllRef::LAYOUT), Ok(()));
    assert_eq!(
        memory.check(<hotswap_fixtures::FixtureRef as StableAbi>::LAYOUT),
        Ok(())
    );
    assert_eq!(memory.check_header(), Ok(()));
    assert!(
        memory.called.borrow().len() > 50,
        "many types are among them"
    );
}

/// Whatever byte changes, the check returns without a panic.
#[test]
fn any_byte_may_be_another() {
    let mut memory = Overlay::of_this_process();
    memory.check_all().unwrap();
    let all = memory.bytes_read();
    let some = all.iter().step_by(all.len() / 400);
    let (mut whole, mut damaged) = (0, 0);
    for (turn, address) in some.enumerate() {
        memory.change(*address, |byte| byte ^ (1 << (turn % 8)));
        *if memory.check_all().is_ok() {
            &mut whole
        } else {
            &mut damaged
        } += 1;
    }
    // Some bytes may have any value: in a name, say, or in a number.
    assert!(whole > 0 && damaged > 0, "{whole} whole, {damaged} damaged");
}

/// The check does not follow a pointer that leads out of the program.
#[test]
fn no_damaged_pointer_is_followed() {
    let mut memory = Overlay::of_this_process();
    memory.check_all().unwrap();
    let words = memory
        .bytes_read()
        .into_iter()
        .filter(|it| it.is_multiple_of(8));
    let pointers: Vec<usize> = words
        .filter(|it| memory.leads_somewhere(memory.word(*it)))
        .collect();
    assert!(pointers.len() > 200, "{} pointers", pointers.len());
    let mut unseen = Vec::new();
    for address in pointers.into_iter() {
        memory.change(address + 5, |byte| byte ^ 0x40);
        if memory.check_all().is_ok() {
            unseen.push(address);
        }
    }
    assert!(unseen.is_empty(), "{unseen:?}");
}

/// A const parameter must lie where values lie, even though other references may have small addresses.
#[test]
fn a_constant_parameter_lies_in_the_image() {
    let mut memory = Overlay::of_this_process();
    memory.check_all().unwrap();
    let value = memory.constant_of(Parameterised::<u8, 7>::LAYOUT);
    for to in [0_usize, 8] {
        memory.change(value, |_| 0);
        let bytes = to.to_ne_bytes().into_iter().enumerate();
        memory
            .changed
            .extend(bytes.map(|(index, byte)| (value + index, byte)));
        assert_eq!(memory.check_all(), Err(Damaged), "{to}");
    }
}

#[test]
fn so_many_tags_that_nobody_can_visit_them_are_damage() {
    const BOOL: Tag = Tag::bool_(true);
    static INNER: [Tag; 1000] = [BOOL; 1000];
    const ARRAY: Tag = Tag::arr(RSlice::from_slice(&INNER));
    static OUTER: [Tag; 1000] = [ARRAY; 1000];
    static FEW: Tag = ARRAY;
    static MANY: Tag = Tag::arr(RSlice::from_slice(&OUTER));
    let memory = Overlay::of_this_process();
    let check = |tag: &'static Tag| Walk::new(&memory).tag(ptr::from_ref(tag).addr(), 0);
    assert_eq!(check(&FEW), Ok(()));
    assert_eq!(check(&MANY), Err(Damaged));
}

#[test]
fn a_type_that_is_its_own_parameter_is_damage() {
    let memory = Overlay::of_this_process();
    let with = |edges: &[(usize, &[usize])]| {
        let mut walk = Walk::new(&memory);
        walk.seen = edges.iter().map(|(of, all)| (*of, all.to_vec())).collect();
        walk.no_type_is_its_own_parameter()
    };
    assert_eq!(with(&[(1, &[2, 3]), (2, &[3]), (3, &[])]), Ok(()));
    assert_eq!(with(&[(1, &[1])]), Err(Damaged));
    assert_eq!(with(&[(1, &[2]), (2, &[3]), (3, &[2])]), Err(Damaged));
}
