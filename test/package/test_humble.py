"""Humble has no wheels to run the tests on: what the package uses of rclpy is compared with tables.

They were read from the source of rclpy 3.3.15, Humble's, in ros2/rclpy. A name that is new here
must be looked up there, or in /opt/ros/humble, before it is added.

What this does not see: whether a call behaves as later; names that are reached by getattr; types
and values of arguments; arguments of a method whose name others have too (OF_OTHERS_TOO); fields of
messages; and whether a table was copied right. Nothing of it has run on Humble's rclpy.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

rclpy = pytest.importorskip("rclpy", reason="its classes tell which names are rclpy's")

PACKAGE = Path(__file__).resolve().parents[2] / "unirestore_ros"
CLASSES = {
    "client": "Client",
    "clock": "Clock",
    "duration": "Duration",
    "executors": "SingleThreadedExecutor",
    "lifecycle": "LifecycleNode LifecyclePublisher",
    "parameter": "Parameter",
    "publisher": "Publisher",
    "qos": "QoSProfile",
    "subscription": "Subscription",
    "task": "Future",
    "time": "Time",
    "topic_endpoint_info": "TopicEndpointInfo",
}
IMPORTED = {
    "rclpy.callback_groups": "MutuallyExclusiveCallbackGroup",
    "rclpy.client": "Client",
    "rclpy.clock": "Clock ClockType",
    "rclpy.duration": "Duration",
    "rclpy.exceptions": "ParameterException",
    "rclpy.executors": "SingleThreadedExecutor",
    "rclpy.impl.implementation_singleton": "rclpy_implementation",
    "rclpy.impl.rcutils_logger": "RcutilsLogger",
    "rclpy.lifecycle": "LifecycleNode LifecyclePublisher LifecycleState TransitionCallbackReturn",
    "rclpy.logging": "get_logger",
    "rclpy.node": "Node",
    "rclpy.parameter": "Parameter",
    "rclpy.publisher": "Publisher",
    "rclpy.qos": "DurabilityPolicy HistoryPolicy QoSCompatibility QoSProfile ReliabilityPolicy"
    " qos_check_compatible",
    "rclpy.serialization": "deserialize_message serialize_message",
    "rclpy.signals": "SignalHandlerOptions",
    "rclpy.subscription": "Subscription",
    "rclpy.task": "Future",
    "rclpy.utilities": "remove_ros_args",
}
"""By module: what may be imported from it."""
CALLED = {
    "add_done_callback": "callback",
    "add_node": "node",
    "add_on_set_parameters_callback": "callback",
    "call_async": "request",
    "count_publishers": "topic_name",
    "count_subscribers": "topic_name",
    "cancel": "",
    "create_client": "srv_type srv_name qos_profile callback_group",
    "create_lifecycle_publisher": "msg_type topic qos_profile callback_group event_callbacks"
    " qos_overriding_options publisher_class",
    "create_node": "node_name context cli_args namespace use_global_arguments enable_rosout"
    " start_parameter_services parameter_overrides allow_undeclared_parameters"
    " automatically_declare_parameters_from_overrides",
    "create_publisher": "msg_type topic qos_profile callback_group event_callbacks"
    " qos_overriding_options publisher_class",
    "create_service": "srv_type srv_name callback qos_profile callback_group",
    "create_subscription": "msg_type topic callback qos_profile callback_group event_callbacks"
    " qos_overriding_options raw",
    "create_timer": "timer_period_sec callback callback_group clock",
    "declare_parameter": "name value descriptor ignore_override",
    "destroy_lifecycle_publisher": "publisher",
    "destroy_node": "",
    "destroy_subscription": "subscription",
    "get_clock": "",
    "get_default_context": "",
    "get_domain_id": "",
    "get_fully_qualified_name": "",
    "get_logger": "name",
    "get_name": "",
    "get_namespace": "",
    "get_node_names": "",
    "get_node_names_and_namespaces": "",
    "get_parameters": "names",
    "get_publishers_info_by_topic": "topic_name no_mangle",
    "get_service_names_and_types": "",
    "get_subscription_count": "",
    "get_subscriptions_info_by_topic": "topic_name no_mangle",
    "get_topic_names_and_types": "no_demangle",
    "init": "args context domain_id signal_handler_options initialize_logging",
    "now": "",
    "on_activate": "state",
    "on_deactivate": "state",
    "remove_pending_request": "future",
    "resolve_topic_name": "topic only_expand",
    "service_is_ready": "",
    "set_parameters": "parameter_list",
    "shutdown": "context uninstall_handlers timeout_sec",
    "spin": "node executor",
    "spin_once": "node executor timeout_sec",
    "to_msg": "",
    "trigger_activate": "",
    "trigger_configure": "",
    "wait_for_all_acked": "timeout",
    "wake": "",
    # functions and constructors
    "Clock": "clock_type",
    "Duration": "seconds nanoseconds",
    "LifecycleState": "label state_id",
    "MutuallyExclusiveCallbackGroup": "",
    "Parameter": "name type_ value",
    "QoSProfile": "history depth reliability durability lifespan deadline liveliness"
    " liveliness_lease_duration avoid_ros_namespace_conventions",
    "SingleThreadedExecutor": "context",
    "deserialize_message": "serialized_message message_type",
    "qos_check_compatible": "publisher_qos subscription_qos",
    "remove_ros_args": "args",
    "destroy_client": "client",
    "serialize_message": "message",
    "to_parameter_msg": "",
    "wait_for_service": "timeout_sec",
}
"""By function, method or class: the parameters, in their order."""
READ = (
    "clients clock context depth durability executor handle history is_activated name nanoseconds"
    " publishers qos_profile reliability topic_name value"
)
"""Properties, and attributes."""
OF_OTHERS_TOO = (
    "call callback create_task destroy done error fatal info publish reset result set_result"
    " warning"
)
"""Methods that Humble has, too common a name to tell whose arguments are given."""


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if any(of_rclpy(node) for node in ast.walk(tree)):
            yield file, tree


def of_rclpy(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any(alias.name == "rclpy" for alias in node.names)
    return isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rclpy"


def objects_of_rclpy() -> Iterator[object]:
    yield rclpy
    for module, names in CLASSES.items():
        for name in names.split():
            yield getattr(importlib.import_module(f"rclpy.{module}"), name)


def test_what_is_imported_is_there_in_humble() -> None:
    for file, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and of_rclpy(node):
                known = IMPORTED.get(node.module or "", "").split()
                for alias in node.names:
                    assert alias.name in known, f"{file}: {node.module}.{alias.name}"


def test_what_is_used_of_rclpys_objects_is_there_in_humble() -> None:
    public = {
        name
        for each in objects_of_rclpy()
        for name in dir(each)
        # Which submodules rclpy has as attributes depends on who imported them before.
        if name[0] != "_" and not isinstance(getattr(each, name, None), ModuleType)
    }
    known = {*CALLED, *READ.split(), *OF_OTHERS_TOO.split()}
    for file, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in public:
                assert node.attr in known, f"{file}:{node.lineno}: {node.attr}"


def test_arguments_are_those_of_humble() -> None:
    for file, tree in trees():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", None))
            if name not in CALLED:
                continue
            parameters = CALLED[name].split()
            where = f"{file}:{node.lineno}: {name}"
            starred = any(isinstance(value, ast.Starred) for value in node.args)
            assert starred or len(node.args) <= len(parameters), where
            named = {word.arg for word in node.keywords if word.arg is not None}
            assert named <= set(parameters), f"{where}: {named - set(parameters)}"
