//! What surrounds every page: navigation, environment, person, live sign.

use super::{
    assets,
    state::ConsoleState,
    text::{clock, grouped},
    visitor::{Theme, Visitor},
};

/// The pages of the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Overview,
    Jobs,
    Dead,
    Callers,
    Batches,
    Rules,
    Audit,
}

impl Place {
    pub(super) const ALL: [Self; 7] =
        [Self::Overview, Self::Jobs, Self::Dead, Self::Callers, Self::Batches, Self::Rules, Self::Audit];

    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Overview => "/console",
            Self::Jobs => "/console/jobs",
            Self::Dead => "/console/dead",
            Self::Callers => "/console/callers",
            Self::Batches => "/console/batches",
            Self::Rules => "/console/rules",
            Self::Audit => "/console/audit",
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Jobs => "Jobs",
            Self::Dead => "Dead letters",
            Self::Callers => "Callers",
            Self::Batches => "Batches",
            Self::Rules => "Rules",
            Self::Audit => "Audit",
        }
    }

    /// Whether it has a tab of its own on a phone.
    const fn is_tab(self) -> bool {
        matches!(self, Self::Overview | Self::Jobs | Self::Dead | Self::Rules)
    }
}

/// A line of the navigation.
#[derive(Debug)]
pub(super) struct NavItem {
    pub(super) path: &'static str,
    pub(super) label: &'static str,
    /// How many there are, if that is known.
    pub(super) count: String,
    pub(super) is_current: bool,
    pub(super) is_tab: bool,
    /// The key that follows `g`.
    pub(super) key: char,
}

impl NavItem {
    /// Its name where there is little room.
    pub(super) fn tab(&self) -> &str {
        self.label.split(' ').next().unwrap_or(self.label)
    }
}

/// What surrounds a page.
#[derive(Debug)]
pub(super) struct Shell {
    pub(super) environment: String,
    pub(super) nav: Vec<NavItem>,
    /// `ada (ops)`
    pub(super) person: String,
    pub(super) roles: String,
    pub(super) can_log_out: bool,
    pub(super) csrf: String,
    pub(super) theme: Theme,
    /// Where the choice of colours leads back to.
    pub(super) page: String,
    /// The time of the figures, in RFC 3339; empty: the page has none.
    pub(super) at: String,
    /// Where the page's live parts come from; empty: it has none.
    pub(super) live: String,
    /// What the search field shows.
    pub(super) search: String,
    /// The page asks for itself again without the script, in seconds; 0: never.
    pub(super) refresh_s: u32,
}

impl Shell {
    /// The shell of a page for a visitor.
    pub(super) fn new(state: &ConsoleState, visitor: &Visitor, place: Place) -> Self {
        let look = state.board.latest().filter(|_| visitor.principal.require_all_merchants().is_ok());
        let count = |of: Place| match (&look, of) {
            (Some(look), Place::Dead) => grouped(look.snapshot.dead_letters.total),
            (Some(look), Place::Rules) => grouped(u64::try_from(look.snapshot.orders_total).unwrap_or(0)),
            _ => String::new(),
        };
        let item = |of: Place| NavItem {
            path: of.path(),
            label: of.label(),
            count: Some(count(of)).filter(|count| count != "0").unwrap_or_default(),
            is_current: of == place,
            is_tab: of.is_tab(),
            key: of.label().chars().next().map_or(' ', |first| first.to_ascii_lowercase()),
        };
        let roles: Vec<_> = crate::config::GatewayRole::ALL
            .into_iter()
            .filter(|role| visitor.principal.has(*role))
            .map(crate::config::GatewayRole::as_str)
            .collect();
        Self {
            environment: super::text::shown(&state.config.gateway.environment),
            nav: Place::ALL.into_iter().map(item).collect(),
            person: super::text::shown(&visitor.name()),
            roles: roles.join(", "),
            can_log_out: visitor.session.is_some(),
            csrf: visitor.csrf.clone(),
            theme: visitor.theme,
            page: visitor.page.clone().unwrap_or_else(|| place.path().to_owned()),
            at: String::new(),
            live: String::new(),
            search: String::new(),
            refresh_s: 0,
        }
    }

    /// With the time of the page's figures, in RFC 3339.
    #[must_use]
    pub(super) fn at(self, at: &str) -> Self {
        Self { at: at.to_owned(), ..self }
    }

    /// With live parts from this address.
    #[must_use]
    pub(super) fn live(self, address: String) -> Self {
        Self { live: address, ..self }
    }

    pub(super) fn at_clock(&self) -> &str {
        clock(&self.at)
    }

    pub(super) fn is_production(&self) -> bool {
        self.environment.to_ascii_lowercase().starts_with("prod")
    }

    #[allow(clippy::unused_self, reason = "a template calls it")]
    pub(super) fn themes(&self) -> [Theme; 3] {
        Theme::ALL
    }

    #[allow(clippy::trivially_copy_pass_by_ref)] // Templates pass references.
    pub(super) fn is_theme(&self, theme: &Theme) -> bool {
        self.theme == *theme
    }
}

/// A part of a page that the stream may replace. Its address in the page is its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) id: &'static str,
    pub(super) html: String,
}

/// A symbol of the sprite, for templates: `{{ symbol("failed")|safe }}`. It is never alone: a word stands beside it.
pub(super) fn symbol(name: &str) -> String {
    format!("<svg class=\"sym\" aria-hidden=\"true\"><use href=\"{}#{name}\"/></svg>", assets::sprite())
}
