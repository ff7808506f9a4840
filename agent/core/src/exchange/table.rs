//! An exchange's endpoints as data: what each can do, what it needs, and what its parameters mean.

mod content;
mod names;

use std::collections::HashMap;

pub use content::Content;
use content::ContentNames;
use names::TableNames;
pub use names::{NameId, NameSet, Spelling};

use super::facts::Facts;
use super::scheme::{self, Scheme};
use crate::json::Value;
use crate::request::{Method, Params, Request};
use crate::scope::Scope;

/// One endpoint, with its exact method and path. `{name}` stands for one part of the path.
#[derive(Debug)]
pub struct Endpoint {
    pub method: Method,
    pub path: &'static str,
    pub scope: Scope,
    /// The reason for its scope, if that is not obvious.
    pub reason: Option<&'static str>,
    /// Endpoints of different groups never take the same signature.
    pub group: usize,
    /// No client may ask for it. A signature that it would take still counts as opening it.
    pub withheld: bool,
}

impl Endpoint {
    pub fn moves_money(&self) -> bool {
        matches!(self.scope, Scope::Transfer | Scope::Withdraw)
    }
}

/// The meaning of a parameter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    Address,
    Amount,
    Asset,
    /// The symbol of all orders of a list. It stands beside the list.
    Common,
    From,
    List,
    /// The kind of market an order is for.
    Market,
    Memo,
    Network,
    Price,
    Quantity,
    Quote,
    Side,
    Symbol,
    To,
    Type,
}

impl Role {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "address" => Self::Address,
            "amount" => Self::Amount,
            "asset" => Self::Asset,
            "common" => Self::Common,
            "from" => Self::From,
            "list" => Self::List,
            "market" => Self::Market,
            "memo" => Self::Memo,
            "network" => Self::Network,
            "price" => Self::Price,
            "quantity" => Self::Quantity,
            "quote" => Self::Quote,
            "side" => Self::Side,
            "symbol" => Self::Symbol,
            "to" => Self::To,
            "type" => Self::Type,
            _ => return None,
        })
    }
}

/// The place in a request from which a value is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ValueSource {
    /// None: the value is always this text, `side='buy'`.
    Fixed(&'static str),
    Parameter(&'static str),
    /// In this part of the path, `symbol={pair}`. The parts stand between the slashes.
    PathPart(usize),
}

impl ValueSource {
    pub fn parameter(self) -> Option<&'static str> {
        match self {
            Self::Parameter(name) => Some(name),
            Self::Fixed(_) | Self::PathPart(_) => None,
        }
    }

    fn parse(word: &'static str, path: &str) -> Option<Self> {
        if let Some(text) = word.strip_prefix('\'') {
            return text.strip_suffix('\'').map(Self::Fixed);
        }
        if word.starts_with('{') {
            return path.split('/').position(|part| part == word).map(Self::PathPart);
        }
        Some(Self::Parameter(word))
    }
}

/// A set of parameters that makes a payload acceptable to an endpoint.
#[derive(Debug)]
pub struct Opening {
    pub endpoint: usize,
    pub required: Vec<&'static str>,
    /// The names in `required` as a set. Empty for a read.
    pub required_set: NameSet,
    /// Further names that the endpoint takes and that no role reads, `name?`.
    pub optional: Vec<&'static str>,
    pub roles: Vec<(Role, ValueSource)>,
    /// The type of an order that names none, `type=name?limit`.
    pub default_type: Option<&'static str>,
    /// A number, equal for all openings that read the same orders out of the same payload.
    pub reading: usize,
    /// True if the endpoint takes a request without parameters. Such a request counts for it.
    pub empty: bool,
    /// True for a cancel or a setting of a symbol: it has no size to judge.
    pub places_no_order: bool,
    /// True if ordinary requests have the same signature, so that no signer can tell them apart.
    /// Such an opening is listed, but not counted.
    pub residual: bool,
}

impl Opening {
    /// True if it says where the orders of a payload stand.
    pub fn says_orders(&self) -> bool {
        self.source_of(Role::Symbol).is_some() || self.source_of(Role::List).is_some()
    }

    /// True if the endpoint is known to take a parameter of this name.
    pub fn takes(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }

    /// Every name of the line, some of them twice.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.required.iter().chain(&self.optional).copied().chain(self.read())
    }

    /// The names that roles read.
    fn read(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.roles
            .iter()
            .filter_map(|(_, source)| source.parameter())
            .filter(|name| *name != WHOLE_BODY)
    }

    /// True if it takes a payload in which no name tells which row is meant. Such a payload is an
    /// array as the whole body, or has no names, or has only names that tell nothing and that the
    /// exchange may overlook.
    pub fn takes_nameless(&self, params: &Params, table: &Table) -> bool {
        match params.value() {
            Value::Array(_) => self.name_of(Role::List) == Some(WHOLE_BODY),
            _ => self.empty && !params.members().iter().any(|(name, _)| table.tells(name)),
        }
    }

    pub fn source_of(&self, role: Role) -> Option<ValueSource> {
        self.roles.iter().find_map(|(candidate, source)| (*candidate == role).then_some(*source))
    }

    /// The parameter with this role, if there is one.
    pub fn name_of(&self, role: Role) -> Option<&'static str> {
        self.source_of(role)?.parameter()
    }
}

/// All endpoints of an exchange.
#[derive(Debug)]
pub struct Table {
    schemes: &'static [Scheme],
    /// First the endpoints that a client may ask for, then those that are withheld.
    endpoints: Vec<Endpoint>,
    /// The number of endpoints that a client may ask for.
    asked: usize,
    openings: Vec<Opening>,
    names: TableNames,
    /// The names of the parameters that the agent sets.
    managed: Vec<&'static str>,
    /// The names that any row may carry, from the file's `harmless` lines.
    harmless: Vec<&'static str>,
    /// For each endpoint, sorted: the names that it takes, and those that any row may carry.
    listed: Vec<Vec<NameId>>,
    /// For each name: true if a row that is more than a read requires or reads it.
    tells: Vec<bool>,
    /// For each name: the other names that it ends in.
    endings: Vec<Vec<NameId>>,
    exact: HashMap<(Method, &'static str), usize>,
    /// Endpoints with `{name}` in their paths, by method and number of parts.
    patterns: HashMap<(Method, usize), Vec<usize>>,
    /// By endpoint.
    openings_of: Vec<Vec<usize>>,
    /// Openings by their rarest required name, so that a request looks at few of them; see
    /// [`Table::telling`].
    telling: Vec<Vec<usize>>,
    /// Openings that count and need no name: they take a request without parameters, or an array.
    nameless: Vec<usize>,
    contents: ContentNames,
}

impl Table {
    /// Parses a `.scopes` and a `.params` file that are compiled in.
    ///
    /// In `.scopes`, a leading `!` marks an endpoint that no client may ask for.
    ///
    /// A `.params` line is `METHOD PATH name role=name name? role=name?`: the names that a request
    /// needs, and their roles. A name with `?` is optional. `type=name?limit` means the type limit
    /// if a request names none. `role={name}` is read from the path, and `role='text'` is always
    /// this text. A leading `~` marks a residual row. A leading `-` marks a row of scope trade that
    /// places no order. `{}` among the names marks a row that takes a request without parameters.
    /// `harmless NAME # source and reason` lists a name that any row may carry.
    ///
    /// `opaque NAME # source` and `instrument NAME # source` say which text the value of a name may
    /// hold if it is signed unescaped: see [`Content`].
    ///
    /// The names that the agent sets have one spelling too.
    ///
    /// # Panics
    /// On a line of another form. The files are part of the program, and a test parses all of them.
    pub fn parse(facts: &Facts, scopes: &'static str, params: &'static str) -> Self {
        let rows = lines(scopes).map(|line| parse_endpoint(line, facts.schemes));
        let (mut endpoints, withheld): (Vec<_>, Vec<_>) = rows.partition(|row| !row.withheld);
        let asked = endpoints.len();
        endpoints.extend(withheld);
        let exact: HashMap<_, _> = endpoints
            .iter()
            .enumerate()
            .map(|(index, endpoint)| ((endpoint.method, endpoint.path), index))
            .collect();
        assert_eq!(exact.len(), endpoints.len(), "an endpoint stands twice");
        let (harmless, rows): (Vec<_>, Vec<_>) =
            lines(params).partition(|line| line.starts_with(HARMLESS));
        let openings: Vec<_> = rows.into_iter().map(|line| parse_opening(line, &exact)).collect();
        let mut table = Self {
            schemes: facts.schemes,
            names: TableNames::new(),
            managed: facts
                .set_by_agent()
                .chain(facts.receive_window.map(|window| window.name))
                .collect(),
            harmless: harmless.into_iter().map(parse_harmless).collect(),
            listed: Vec::new(),
            tells: Vec::new(),
            endings: Vec::new(),
            patterns: HashMap::new(),
            openings_of: vec![Vec::new(); endpoints.len()],
            telling: Vec::new(),
            nameless: Vec::new(),
            contents: ContentNames::parse(params, &openings),
            endpoints,
            asked,
            openings,
            exact,
        };
        table.number_names();
        table.number_readings();
        table.index();
        table.list_names();
        table
    }

    /// The rows that a client may ask for.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints[..self.asked]
    }

    /// The rows that no client may ask for, with their index in the table.
    pub fn withheld(&self) -> impl Iterator<Item = (usize, &Endpoint)> {
        self.endpoints.iter().enumerate().skip(self.asked)
    }

    /// All rows. Those that no client may ask for come last.
    pub fn rows(&self) -> &[Endpoint] {
        &self.endpoints
    }

    pub fn openings(&self) -> &[Opening] {
        &self.openings
    }

    pub fn endpoint(&self, opening: &Opening) -> &Endpoint {
        &self.endpoints[opening.endpoint]
    }

    /// The row for a method and a path, if a client may ask for it. An exact row wins over a
    /// pattern.
    pub fn find(&self, method: Method, path: &str) -> Option<(usize, &Endpoint)> {
        self.find_any(method, path).filter(|(_, row)| !row.withheld)
    }

    /// The same, but also finds rows that no client may ask for.
    pub fn find_any(&self, method: Method, path: &str) -> Option<(usize, &Endpoint)> {
        let exact = self.exact.get(&(method, path)).copied();
        let index = exact.or_else(|| {
            let candidates = self.patterns.get(&(method, path.split('/').count()))?;
            candidates
                .iter()
                .copied()
                .find(|index| matches_pattern(self.endpoints[*index].path, path))
        })?;
        Some((index, &self.endpoints[index]))
    }

    /// The text that the value of this parameter may hold if it is signed unescaped.
    pub fn content(&self, request: &Request, name: &str) -> Content {
        let row = self.find(request.method, request.path.as_str());
        self.contents.of(name, row.is_some_and(|(_, endpoint)| endpoint.scope == Scope::Read))
    }

    /// True if some names may hold a text that the exchange gave out. Then only reads may share a
    /// signature with a read.
    pub fn has_opaque(&self) -> bool {
        self.contents.has_opaque()
    }

    /// True if a path fits the endpoint of this opening.
    pub fn serves(&self, opening: &Opening, path: &str) -> bool {
        let row = self.endpoint(opening).path;
        row == path
            || row.split('/').count() == path.split('/').count() && matches_pattern(row, path)
    }

    pub fn openings_of(&self, endpoint: usize) -> impl Iterator<Item = &Opening> + Clone {
        self.openings_of[endpoint].iter().map(|index| &self.openings[*index])
    }

    /// The openings that count and that a payload with `name` may match. Each of them requires
    /// `name`.
    ///
    /// Many endpoints of an exchange are alike: a signature that opens one cancel by symbol opens
    /// them all. If several openings need the same names and tell the same about a payload, only
    /// the first is given.
    pub fn telling(&self, name: NameId) -> impl Iterator<Item = &Opening> {
        self.telling[name.index()].iter().map(|index| &self.openings[*index])
    }

    /// The openings that count and need no name: they take a request without parameters, or an
    /// array.
    pub fn nameless(&self) -> impl Iterator<Item = &Opening> {
        self.nameless.iter().map(|index| &self.openings[*index])
    }

    /// True if some row reads the instrument of an order from a parameter of this name, in any
    /// letter case.
    pub fn names_instrument(&self, name: &str) -> bool {
        let roles = self.openings.iter().flat_map(|opening| &opening.roles);
        roles.filter(|(role, _)| matches!(role, Role::Common | Role::Symbol)).any(|(_, source)| {
            source.parameter().is_some_and(|known| known.eq_ignore_ascii_case(name))
        })
    }

    /// The way in which the table knows this name.
    pub fn spelling(&self, name: &str) -> Spelling {
        self.names.find(name)
    }

    /// True if a parameter of this name tells something about what a request does: a row that is
    /// more than a read requires or reads it, and the agent does not set it.
    pub fn tells(&self, name: &str) -> bool {
        matches!(self.names.find(name), Spelling::Known(id) if self.tells[id.index()])
            && !self.managed.contains(&name)
    }

    /// The known names that a known name ends in. If query and body are verified as one text, the
    /// sender may cut the name so that only such an ending is left.
    pub fn endings(&self, name: NameId) -> &[NameId] {
        &self.endings[name.index()]
    }

    /// True if a request for this endpoint may carry a parameter of this name although a signature
    /// leaves method or path open. One of the endpoint's own lines has the name, or a `harmless`
    /// line has it, or the agent sets it.
    pub fn lists(&self, endpoint: usize, name: NameId) -> bool {
        self.listed[endpoint].binary_search(&name).is_ok()
    }

    /// True if some row takes an array as its body. If no row does and the path is not bound, an
    /// array is refused.
    pub fn takes_arrays(&self) -> bool {
        self.nameless().any(|opening| opening.name_of(Role::List) == Some(WHOLE_BODY))
    }

    /// A known name that `name` ends in, if `name` itself is not known.
    ///
    /// If an exchange verifies query and body as one text without a separator, the sender may cut
    /// it anywhere: `…&xamount=9` is also the query `…&x` and the body `amount=9`.
    pub fn hidden_name(&self, name: &str) -> Option<&'static str> {
        match self.names.find(name) {
            Spelling::Known(_) => None,
            _ => self.names.ending(name),
        }
    }

    /// Numbers the names that rows require first, so that sets of them are small.
    fn number_names(&mut self) {
        for opening in &mut self.openings {
            // A read opens nothing more, so no rule needs the set of names that it requires.
            if self.endpoints[opening.endpoint].scope != Scope::Read {
                opening.required_set =
                    opening.required.iter().map(|name| self.names.add(name)).collect();
            }
        }
        assert!(
            self.names.all().len() <= NameSet::CAPACITY,
            "more than {} required names",
            NameSet::CAPACITY
        );
        let others =
            self.openings.iter().flat_map(Opening::names).chain(self.managed.iter().copied());
        for name in others.chain(self.harmless.iter().copied()) {
            self.names.add(name);
        }
    }

    fn list_names(&mut self) {
        let id = |name| self.names.number(name);
        let anywhere = self.harmless.iter().chain(&self.managed).map(|name| id(name));
        let anywhere: Vec<_> = anywhere.collect();
        let of = |endpoint: usize| self.openings_of(endpoint).flat_map(Opening::names).map(id);
        let mut listed: Vec<Vec<_>> = (0..self.endpoints.len())
            .map(|endpoint| anywhere.iter().copied().chain(of(endpoint)).collect())
            .collect();
        let mut tells = vec![false; self.names.all().len()];
        for opening in
            self.openings.iter().filter(|opening| self.endpoint(opening).scope != Scope::Read)
        {
            opening
                .required
                .iter()
                .copied()
                .chain(opening.read())
                .for_each(|name| tells[id(name).index()] = true);
        }
        listed.iter_mut().for_each(|names| {
            names.sort_unstable();
            names.dedup();
        });
        self.endings =
            self.names.all().iter().map(|name| self.names.endings(name).collect()).collect();
        (self.listed, self.tells) = (listed, tells);
    }

    fn number_readings(&mut self) {
        for index in 0..self.openings.len() {
            let Opening { roles, default_type, places_no_order, .. } = &self.openings[index];
            let same = |other: &Opening| {
                (&other.roles, other.default_type, other.places_no_order)
                    == (roles, *default_type, *places_no_order)
            };
            self.openings[index].reading = self.openings.iter().position(same).unwrap_or(index);
        }
    }

    fn index(&mut self) {
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            if endpoint.path.contains('{') {
                let parts = endpoint.path.split('/').count();
                self.patterns.entry((endpoint.method, parts)).or_default().push(index);
            }
        }
        let id = |name: &str| self.names.number(name).index();
        let mut uses = vec![0; self.names.all().len()];
        for name in self.openings.iter().flat_map(|opening| &opening.required) {
            uses[id(name)] += 1;
        }
        self.telling = vec![Vec::new(); self.names.all().len()];
        for (index, opening) in self.openings.iter().enumerate() {
            self.openings_of[opening.endpoint].push(index);
            let rarest = opening.required.iter().map(|name| id(name)).min_by_key(|id| uses[*id]);
            if !self.counts(opening) {
                continue;
            }
            let Some(rarest) = rarest else {
                self.nameless.push(index);
                continue;
            };
            let same = |earlier: &usize| self.tells_the_same(&self.openings[*earlier], opening);
            if !self.telling[rarest].iter().any(same) {
                self.telling[rarest].push(index);
            }
        }
    }

    /// True if an opening counts for a request to another endpoint.
    pub fn counts(&self, opening: &Opening) -> bool {
        !opening.residual && self.endpoint(opening).scope != Scope::Read
    }

    /// True if every signature that opens one also opens the other, with the same scope and the
    /// same orders. Never true for rows that move money: each of them says what moves.
    fn tells_the_same(&self, one: &Opening, other: &Opening) -> bool {
        let (row, other_row) = (self.endpoint(one), self.endpoint(other));
        let prefix = self.schemes[row.group].path_prefix;
        let inseparable = row.group == other_row.group
            && self.schemes.iter().filter(|scheme| scheme.path_prefix == prefix).all(|scheme| {
                (!scheme.binding.path || row.path == other_row.path)
                    && (!scheme.binding.method || row.method == other_row.method)
            });
        let same_orders = row.scope != Scope::Trade
            || one.reading == other.reading
            || one.places_no_order && other.places_no_order;
        inseparable
            && one.required_set == other.required_set
            && row.scope == other_row.scope
            && !row.moves_money()
            && same_orders
    }
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().map(str::trim).filter(|line| {
        let is_row = !content::says_content(line);
        is_row && !line.is_empty() && !line.starts_with('#')
    })
}

fn parse_endpoint(line: &'static str, schemes: &[Scheme]) -> Endpoint {
    let (row, withheld) = line.strip_prefix('!').map_or((line, false), |row| (row, true));
    let (row, reason) =
        row.split_once('#').map_or((line, None), |(row, reason)| (row, Some(reason.trim())));
    let words: Vec<_> = row.split_whitespace().collect();
    let [method, path, scope] = words[..] else { panic!("not METHOD PATH SCOPE: {line}") };
    let method = Method::parse(method).unwrap_or_else(|_| panic!("unknown method: {line}"));
    let scope = Scope::from_name(scope).unwrap_or_else(|| panic!("unknown scope: {line}"));
    Endpoint { method, path, scope, reason, group: scheme::group(schemes, path), withheld }
}

fn parse_harmless(line: &'static str) -> &'static str {
    let (row, why) = line.split_once('#').unwrap_or_else(|| panic!("no source: {line}"));
    let words: Vec<_> = row.split_whitespace().collect();
    match words[..] {
        [_, name] if !why.trim().is_empty() => name,
        _ => panic!("not harmless NAME # source: {line}"),
    }
}

fn parse_opening(
    line: &'static str,
    endpoints: &HashMap<(Method, &'static str), usize>,
) -> Opening {
    let (row, residual) = line.strip_prefix('~').map_or((line, false), |row| (row, true));
    let (row, places_no_order) = row.strip_prefix('-').map_or((row, false), |row| (row, true));
    let row = row.split_once('#').map_or(row, |(row, _)| row);
    let mut words = row.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let method = Method::parse(method).unwrap_or_else(|_| panic!("unknown method: {line}"));
    let endpoint =
        *endpoints.get(&(method, path)).unwrap_or_else(|| panic!("no such endpoint: {line}"));
    let mut opening = Opening {
        endpoint,
        required: Vec::new(),
        required_set: NameSet::default(),
        optional: Vec::new(),
        roles: Vec::new(),
        default_type: None,
        reading: 0,
        empty: false,
        places_no_order,
        residual,
    };
    for word in words {
        if word == NO_PARAMETERS {
            opening.empty = true;
            continue;
        }
        let (role, name) =
            word.split_once('=').map_or((None, word), |(role, name)| (Some(role), name));
        let (name, optional) = match name.split_once('?') {
            Some((name, default)) => {
                assert!(
                    default.is_empty() || role == Some("type"),
                    "only a type has a default: {line}"
                );
                opening.default_type =
                    Some(default).filter(|default| !default.is_empty()).or(opening.default_type);
                (name, true)
            }
            None => (name, false),
        };
        let source = ValueSource::parse(name, path)
            .unwrap_or_else(|| panic!("no such part of the path: {line}"));
        match role {
            Some(role) => {
                let role = Role::parse(role).unwrap_or_else(|| panic!("unknown role: {line}"));
                opening.roles.push((role, source));
            }
            None if optional => opening.optional.push(name),
            None => {}
        }
        let needed = !optional && name != WHOLE_BODY && source == ValueSource::Parameter(name);
        if needed && !opening.required.contains(&name) {
            opening.required.push(name);
        }
    }
    opening
}

/// Begins a line that names no row.
const HARMLESS: &str = "harmless ";

/// Instead of names: a request without parameters is enough.
const NO_PARAMETERS: &str = "{}";

/// `list=.`: the body itself is the list.
pub const WHOLE_BODY: &str = ".";

fn matches_pattern(pattern: &str, path: &str) -> bool {
    pattern.split('/').zip(path.split('/')).all(|(wanted, found)| {
        let placeholder = wanted.starts_with('{') && wanted.ends_with('}');
        let fits = !found.is_empty() && (found.is_ascii() || INSTRUMENTS.contains(&wanted));
        if placeholder { fits } else { wanted == found }
    })
}

/// Segments of a path that may have letters of any script.
const INSTRUMENTS: &[&str] = &["{contract}", "{currency}", "{pair}", "{symbol}"];

#[cfg(test)]
mod tests {
    use super::super::Binding;
    use super::*;

    fn table() -> Table {
        static FACTS: Facts = Facts {
            schemes: &[Scheme::of("/", Binding::PARAMETERS)],
            managed: &["timestamp"],
            ..Facts::PLAIN
        };
        Table::parse(
            &FACTS,
            "# comment\nDELETE /v/orders trade\nGET /v/orders read\nGET /v/orders/{id} read\nGET \
             /v/orders/all trade # reason\n",
            "DELETE /v/orders symbol=symbol\n~ GET /v/orders/all\n",
        )
    }

    #[test]
    fn rows_are_exact_and_patterns_match_one_part() {
        let table = table();
        let scope = |method, path| table.find(method, path).map(|(_, endpoint)| endpoint.scope);
        assert_eq!(scope(Method::Get, "/v/orders"), Some(Scope::Read));
        assert_eq!(scope(Method::Get, "/v/orders/7"), Some(Scope::Read));
        assert_eq!(scope(Method::Get, "/v/orders/all"), Some(Scope::Trade), "an exact row wins");
        for path in ["/v/orders/", "/v/orders/7/8", "/V/orders", "/v", "/v/orders/7/"] {
            assert_eq!(scope(Method::Get, path), None, "{path}");
        }
        assert_eq!(scope(Method::Post, "/v/orders"), None);
    }

    #[test]
    fn other_case_of_a_known_name_is_seen() {
        let table = table();
        assert_eq!(table.spelling("Symbol"), Spelling::Other("symbol"));
        assert_eq!(table.spelling("TIMESTAMP"), Spelling::Other("timestamp"));
        assert!(matches!(table.spelling("symbol"), Spelling::Known(_)));
        assert_eq!(table.spelling("other"), Spelling::Unknown);
    }
}
