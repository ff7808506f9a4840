//! The parameter names of one table, numbered, so that a set of them is a few machine words.

/// A name's number in its table. The names that rows require have the lowest.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct NameId(u16);

impl NameId {
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A set of names that rows of one table require. It has no room for others, and leaves them out.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NameSet([u64; NAME_SET_WORDS]);

const NAME_SET_WORDS: usize = 8;

impl NameSet {
    pub const CAPACITY: usize = 64 * NAME_SET_WORDS;

    pub fn insert(&mut self, name: NameId) {
        if let Some(word) = self.0.get_mut(name.index() / 64) {
            *word |= 1 << (name.index() % 64);
        }
    }

    pub fn contains_all(&self, others: &Self) -> bool {
        self.0.iter().zip(&others.0).all(|(own, other)| other & !own == 0)
    }

    pub fn is_empty(&self) -> bool {
        self.0 == [0; NAME_SET_WORDS]
    }
}

impl FromIterator<NameId> for NameSet {
    fn from_iter<I: IntoIterator<Item = NameId>>(names: I) -> Self {
        names.into_iter().fold(Self::default(), |mut set, name| {
            set.insert(name);
            set
        })
    }
}

/// The way in which a table knows a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Spelling {
    Known(NameId),
    /// The table knows the name only in another letter case, which is this.
    Other(&'static str),
    Unknown,
}

/// Every name of a table, in the order they were added.
#[derive(Debug)]
pub(super) struct TableNames {
    spelled: Vec<&'static str>,
    /// The names in a bucket have the same hash of their lower case. The names are compiled in, so
    /// nobody can choose them to fill one bucket.
    buckets: Vec<Vec<NameId>>,
    /// For each first byte, the lengths of the names that begin with it, a bit each.
    lengths: [u64; 128],
}

const BUCKETS: usize = 512;
const LONGEST_TABLE_NAME: usize = 63;

impl TableNames {
    pub(super) fn new() -> Self {
        Self { spelled: Vec::new(), buckets: vec![Vec::new(); BUCKETS], lengths: [0; 128] }
    }

    /// The number of `name`, which may be known already.
    ///
    /// # Panics
    /// On a name that is not plain, and if a table holds more names than there are numbers. The
    /// tables are part of the program.
    pub(super) fn add(&mut self, name: &'static str) -> NameId {
        if let Spelling::Known(known) = self.find(name) {
            return known;
        }
        assert!(
            name.is_ascii() && (1..=LONGEST_TABLE_NAME).contains(&name.len()),
            "not a plain name: {name}"
        );
        assert!(self.spelled.len() < usize::from(u16::MAX), "more names than numbers");
        let added = NameId(self.spelled.len() as u16);
        self.spelled.push(name);
        self.buckets[bucket(name)].push(added);
        self.lengths[usize::from(name.as_bytes()[0])] |= 1 << name.len();
        added
    }

    /// The number of a name that was added.
    ///
    /// # Panics
    /// On another name.
    pub(super) fn number(&self, name: &str) -> NameId {
        match self.find(name) {
            Spelling::Known(id) => id,
            _ => panic!("{name} was not added"),
        }
    }

    pub(super) fn find(&self, name: &str) -> Spelling {
        let mut other = Spelling::Unknown;
        for candidate in &self.buckets[bucket(name)] {
            let spelled = self.spelled[candidate.index()];
            if spelled == name {
                return Spelling::Known(*candidate);
            }
            if other == Spelling::Unknown && spelled.eq_ignore_ascii_case(name) {
                other = Spelling::Other(spelled);
            }
        }
        other
    }

    /// A known name that `name` ends in. It is shorter than `name`.
    pub(super) fn ending(&self, name: &str) -> Option<&'static str> {
        self.endings(name).next().map(|known| self.spelled[known.index()])
    }

    /// All such names, the longest first.
    pub(super) fn endings<'a>(&'a self, name: &'a str) -> impl Iterator<Item = NameId> + 'a {
        (1..name.len()).filter_map(|cut| {
            let rest = name.get(cut..)?;
            // Most endings are ruled out by their first byte and length.
            let lengths = self.lengths.get(usize::from(rest.as_bytes()[0]))?;
            if rest.len() > LONGEST_TABLE_NAME || lengths & (1 << rest.len()) == 0 {
                return None;
            }
            match self.find(rest) {
                Spelling::Known(known) => Some(known),
                _ => None,
            }
        })
    }

    /// Every name, at the index that is its number.
    pub(super) fn all(&self) -> &[&'static str] {
        &self.spelled
    }
}

fn bucket(name: &str) -> usize {
    let step = |hash: usize, byte: u8| {
        hash.wrapping_mul(31).wrapping_add(byte.to_ascii_lowercase().into())
    };
    name.bytes().fold(0, step) % BUCKETS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> (TableNames, [NameId; 3]) {
        let mut names = TableNames::new();
        let ids = ["symbol", "orderIdList", "orderidlist"].map(|name| names.add(name));
        (names, ids)
    }

    #[test]
    fn a_name_is_known_in_its_own_spellings_only() {
        let (mut names, [symbol, upper, lower]) = names();
        assert!(symbol != upper && upper != lower);
        assert_eq!(names.add("symbol"), symbol, "a name has one number");
        assert_eq!(names.find("orderidlist"), Spelling::Known(lower));
        assert_eq!(names.find("Symbol"), Spelling::Other("symbol"));
        assert_eq!(names.find("ORDERIDLIST"), Spelling::Other("orderIdList"));
        for unknown in ["", "symbo", "symbols", "é", "sYmbol2"] {
            assert_eq!(names.find(unknown), Spelling::Unknown, "{unknown}");
        }
    }

    #[test]
    fn endings_are_whole_names() {
        let (names, _) = names();
        assert_eq!(names.ending("xsymbol"), Some("symbol"));
        assert_eq!(names.ending("symbolorderidlist"), Some("orderidlist"));
        assert_eq!(names.endings("symbolorderidlist").count(), 1);
        for none in ["symbol", "xSymbol", "symbolx", "", "é", &"x".repeat(200)] {
            assert_eq!(names.ending(none), None, "{none}");
        }
    }

    #[test]
    fn a_set_contains_its_parts() {
        let mut names = TableNames::new();
        let many: Vec<_> =
            (0..NameSet::CAPACITY).map(|number| names.add(format!("n{number}").leak())).collect();
        let all: NameSet = many.iter().copied().collect();
        for name in &many {
            let one = NameSet::from_iter([*name]);
            assert!(all.contains_all(&one) && !one.contains_all(&all) && !one.is_empty());
            let others: NameSet = many.iter().copied().filter(|other| other != name).collect();
            assert!(!others.contains_all(&one));
        }
        assert!(NameSet::default().is_empty() && all.contains_all(&NameSet::default()));
        let beyond = NameSet::from_iter([names.add("beyond")]);
        assert!(beyond.is_empty(), "a name that no row requires is in no set");
    }
}
