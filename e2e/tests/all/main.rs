//! The promises, one module for each part of a row; all on the lab that is up. One program, so that a change is linked once.

mod a1_subnet_from_namespace;
mod a2_objects_tell;
mod a2_refused_by_the_api_server;
mod a2_what_is_wrong;
mod a3_rebinding;
mod a4_pools;
mod a4_static_addresses;
mod a5_private_subnets;
mod a6_dual_stack;
mod b1_nodes_and_pods;
mod b2_distributed_gateway;
mod d1_minute_away;
mod d1_northbound_lost;
mod d2_controllers;
mod d2_in_flight;
mod d3_churn;
mod d3_killed_amid_adds;
mod docs_examples;
mod e1_by_hand;
mod e1_central_moves;
mod e1_chart;
mod e1_install;
mod e1_manifest;
mod e1_node_loss;
mod e1_service_by_name;
mod e1_wrong_settings;
