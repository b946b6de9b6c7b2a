//! Typed rows of the OVN northbound and Open_vSwitch tables, their natural keys, and the facts made of them.
