//! Which of the two databases.

/// The two databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The northbound database, which the controller writes.
    Northbound,
    /// The southbound database, which the chassis read.
    Southbound,
}

impl Which {
    /// Returns the name of the server in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Northbound => "nb",
            Self::Southbound => "sb",
        }
    }

    /// Returns the name of the database in its schema.
    pub fn schema(self) -> &'static str {
        match self {
            Self::Northbound => "OVN_Northbound",
            Self::Southbound => "OVN_Southbound",
        }
    }

    /// Returns the table with the only row of settings.
    pub fn global(self) -> &'static str {
        match self {
            Self::Northbound => "NB_Global",
            Self::Southbound => "SB_Global",
        }
    }
}
