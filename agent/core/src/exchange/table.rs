//! An exchange's endpoints as data: what each can do, what it needs, and what its parameters mean.

use std::collections::HashMap;

use crate::request::Method;
use crate::scope::Scope;

/// One endpoint: exact method and path, `{name}` for one segment.
#[derive(Debug)]
pub struct Endpoint {
    pub method: Method,
    pub path: &'static str,
    pub scope: Scope,
    /// Why it has that scope, where it is not obvious.
    pub reason: Option<&'static str>,
}

/// What a parameter means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    Address,
    Amount,
    Asset,
    /// The symbol of every order of a list, which stands beside the list.
    Common,
    From,
    List,
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

/// A set of parameters that makes a payload acceptable to an endpoint.
#[derive(Debug)]
pub struct Opening {
    pub endpoint: usize,
    pub required: Vec<&'static str>,
    pub roles: Vec<(Role, &'static str)>,
    /// The same for all openings that read the same orders out of the same payload.
    pub reading: usize,
    /// Cancels, or sets something of a symbol: no size to judge.
    pub places_no_order: bool,
    /// Shares its signature with ordinary requests, so that no signer can tell them apart: listed, not counted.
    pub residual: bool,
}

impl Opening {
    pub fn name_of(&self, role: Role) -> Option<&'static str> {
        self.roles.iter().find_map(|(candidate, name)| (*candidate == role).then_some(*name))
    }
}

/// All endpoints of an exchange.
#[derive(Debug)]
pub struct Table {
    endpoints: Vec<Endpoint>,
    openings: Vec<Opening>,
    exact: HashMap<(Method, &'static str), usize>,
    /// Endpoints with `{name}` segments, by method and number of segments.
    patterns: HashMap<(Method, usize), Vec<usize>>,
    openings_of: HashMap<usize, Vec<usize>>,
    /// Openings by their rarest required name, so that a request looks at few of them.
    openings_by_name: HashMap<&'static str, Vec<usize>>,
    /// Every name of the table in lower case, with its true spellings.
    spellings: HashMap<String, Vec<&'static str>>,
}

impl Table {
    /// Parses a `.scopes` and a `.params` file that are compiled in.
    ///
    /// A `.params` line is `METHOD PATH name role=name name? role=name?`: names a request needs (those without `?`), and
    /// what they mean. A leading `~` marks a residual row, a leading `-` a row of scope trade that places no order.
    ///
    /// `known` are names with one spelling beyond those of the files.
    ///
    /// # Panics
    /// On a line that is not of the form: the files are part of the program, and a test parses all of them.
    pub fn parse(scopes: &'static str, params: &'static str, known: &[&'static str]) -> Self {
        let endpoints: Vec<_> = lines(scopes).map(parse_endpoint).collect();
        let exact: HashMap<_, _> =
            endpoints.iter().enumerate().map(|(index, endpoint)| ((endpoint.method, endpoint.path), index)).collect();
        assert_eq!(exact.len(), endpoints.len(), "an endpoint stands twice");
        let openings: Vec<_> = lines(params).map(|line| parse_opening(line, &exact)).collect();
        let mut table = Self {
            patterns: HashMap::new(),
            openings_of: HashMap::new(),
            openings_by_name: HashMap::new(),
            spellings: HashMap::new(),
            endpoints,
            openings,
            exact,
        };
        table.index(known);
        table
    }

    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    pub fn openings(&self) -> &[Opening] {
        &self.openings
    }

    pub fn endpoint(&self, opening: &Opening) -> &Endpoint {
        &self.endpoints[opening.endpoint]
    }

    /// The row for a method and path; an exact row wins over a pattern.
    pub fn find(&self, method: Method, path: &str) -> Option<(usize, &Endpoint)> {
        let exact = self.exact.get(&(method, path)).copied();
        let index = exact.or_else(|| {
            let candidates = self.patterns.get(&(method, path.split('/').count()))?;
            candidates.iter().copied().find(|index| matches_pattern(self.endpoints[*index].path, path))
        })?;
        Some((index, &self.endpoints[index]))
    }

    pub fn openings_of(&self, endpoint: usize) -> impl Iterator<Item = &Opening> {
        self.openings_of.get(&endpoint).into_iter().flatten().map(|index| &self.openings[*index])
    }

    /// Openings that may match a payload which carries `name`; each has it among its required names.
    pub fn openings_by_name(&self, name: &str) -> impl Iterator<Item = &Opening> {
        self.openings_by_name.get(name).into_iter().flatten().map(|index| &self.openings[*index])
    }

    /// The spelling the table knows where `name` differs from it in case only.
    pub fn other_spelling(&self, name: &str) -> Option<&'static str> {
        let known = self.spellings.get(&name.to_ascii_lowercase())?;
        if known.contains(&name) { None } else { known.first().copied() }
    }

    /// A known name that `name` ends in, where `name` itself is not known.
    ///
    /// Where an exchange verifies query and body as one text without a separator, whoever sends the request may cut it
    /// anywhere: `…&xamount=9` is also the query `…&x` and the body `amount=9`.
    pub fn hidden_name(&self, name: &str) -> Option<&'static str> {
        if self.spellings.get(&name.to_ascii_lowercase()).is_some_and(|known| known.contains(&name)) {
            return None;
        }
        (1..name.len()).find_map(|cut| {
            let rest = &name[cut..];
            self.spellings.get(&rest.to_ascii_lowercase())?.iter().copied().find(|known| *known == rest)
        })
    }

    fn index(&mut self, more: &[&'static str]) {
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            if endpoint.path.contains('{') {
                let segments = endpoint.path.split('/').count();
                self.patterns.entry((endpoint.method, segments)).or_default().push(index);
            }
        }
        for index in 0..self.openings.len() {
            let Opening { roles, places_no_order, .. } = &self.openings[index];
            let same = |other: &Opening| (&other.roles, other.places_no_order) == (roles, *places_no_order);
            self.openings[index].reading = self.openings.iter().position(same).unwrap_or(index);
        }
        let mut uses: HashMap<&'static str, usize> = HashMap::new();
        for name in self.openings.iter().flat_map(|opening| &opening.required) {
            *uses.entry(name).or_default() += 1;
        }
        for (index, opening) in self.openings.iter().enumerate() {
            self.openings_of.entry(opening.endpoint).or_default().push(index);
            if let Some(rarest) = opening.required.iter().min_by_key(|name| uses[*name]) {
                self.openings_by_name.entry(rarest).or_default().push(index);
            }
        }
        let names = self
            .openings
            .iter()
            .flat_map(|opening| opening.required.iter().copied().chain(opening.roles.iter().map(|(_, name)| *name)));
        for name in names.chain(more.iter().copied()) {
            let known = self.spellings.entry(name.to_ascii_lowercase()).or_default();
            if !known.contains(&name) {
                known.push(name);
            }
        }
    }
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn parse_endpoint(line: &'static str) -> Endpoint {
    let (row, reason) = line.split_once('#').map_or((line, None), |(row, reason)| (row, Some(reason.trim())));
    let words: Vec<_> = row.split_whitespace().collect();
    let [method, path, scope] = words[..] else { panic!("not METHOD PATH SCOPE: {line}") };
    let method = Method::parse(method).unwrap_or_else(|_| panic!("unknown method: {line}"));
    let scope = Scope::from_name(scope).unwrap_or_else(|| panic!("unknown scope: {line}"));
    Endpoint { method, path, scope, reason }
}

fn parse_opening(line: &'static str, endpoints: &HashMap<(Method, &'static str), usize>) -> Opening {
    let (row, residual) = line.strip_prefix('~').map_or((line, false), |row| (row, true));
    let (row, places_no_order) = row.strip_prefix('-').map_or((row, false), |row| (row, true));
    let row = row.split_once('#').map_or(row, |(row, _)| row);
    let mut words = row.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let method = Method::parse(method).unwrap_or_else(|_| panic!("unknown method: {line}"));
    let endpoint = *endpoints.get(&(method, path)).unwrap_or_else(|| panic!("no such endpoint: {line}"));
    let mut opening =
        Opening { endpoint, required: Vec::new(), roles: Vec::new(), reading: 0, places_no_order, residual };
    for word in words {
        let (role, name) = word.split_once('=').map_or((None, word), |(role, name)| (Some(role), name));
        let (name, optional) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
        if let Some(role) = role {
            opening.roles.push((Role::parse(role).unwrap_or_else(|| panic!("unknown role: {line}")), name));
        }
        if !optional && name != WHOLE_BODY {
            opening.required.push(name);
        }
    }
    opening
}

/// `list=.`: the body itself is the list.
pub const WHOLE_BODY: &str = ".";

fn matches_pattern(pattern: &str, path: &str) -> bool {
    pattern.split('/').zip(path.split('/')).all(|(wanted, found)| {
        let placeholder = wanted.starts_with('{') && wanted.ends_with('}');
        if placeholder { !found.is_empty() } else { wanted == found }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table::parse(
            "# comment\nDELETE /v/orders trade\nGET /v/orders read\nGET /v/orders/{id} read\nGET /v/orders/all trade # reason\n",
            "DELETE /v/orders symbol=symbol\n~ GET /v/orders/all\n",
            &["timestamp"],
        )
    }

    #[test]
    fn rows_are_exact_and_patterns_match_one_segment() {
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
        assert_eq!(table.other_spelling("Symbol"), Some("symbol"));
        assert_eq!(table.other_spelling("TIMESTAMP"), Some("timestamp"));
        assert_eq!(table.other_spelling("symbol"), None);
        assert_eq!(table.other_spelling("other"), None);
    }
}
