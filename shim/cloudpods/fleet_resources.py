"""Nodes, address pools and regions over HTTP."""

from functools import partial

import falcon

from shim.cloudpods import address_pools, fleet, vmid_ranges
from shim.config import Settings
from shim.nodes.figures import NodeView, PoolView
from shim.nodes.models import AddressPool, CloudPodNode
from shim.nodes.regions import Region
from shim.nodes.schemas import (
    ChangeNode,
    ChangePool,
    ChangeRegion,
    CreateNode,
    CreatePool,
    NodeAnswer,
    NodesQuery,
    PoolAnswer,
    RegionAnswer,
)
from shim.web import body, etag, paging, rows
from shim.web.operation import operation
from shim.web.paging import PageQuery
from shim.web.schema import Nothing, PageAnswer, Query


class Nodes:
    """`/internal/nodes`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @operation(permission="manage", query=NodesQuery, answer=PageAnswer[NodeAnswer])
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with a page of nodes, newest first, with what is placed on each."""
        asked: NodesQuery = request.context.query
        rows.page(response, CloudPodNode.listed(**rows.filters(asked)), CloudPodNode, asked, view=NodeView.of)

    @operation(permission="manage", query=Query, body=CreateNode, answer=NodeAnswer, status=201, etag=True)
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Add a node; one of that name that was deleted comes back under its old id."""
        made = fleet.create(body.read(request, CreateNode), self._settings)
        rows.created(request, response, made, name=made.node.name)


class OneNode:
    """`/internal/nodes/{node}`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @operation(permission="manage", query=Query, answer=NodeAnswer, etag=True)
    def on_get(self, request: falcon.Request, response: falcon.Response, node: str) -> None:
        """Answer with the node and what is placed on it."""
        rows.show(response, fleet.show(node))

    @operation(permission="manage", query=Query, body=ChangeNode, answer=NodeAnswer, etag=True)
    def on_put(self, request: falcon.Request, response: falcon.Response, node: str) -> None:
        """Change the fields that are named; totals and storages are the node's own to tell, by its next sync."""
        asked = body.read(request, ChangeNode)
        rows.show(response, fleet.change(node, asked, self._settings, partial(etag.check, request)))

    @operation(permission="manage", query=Query, status=204, etag=True)
    def on_delete(self, request: falcon.Request, response: falcon.Response, node: str) -> None:
        """Remove a node that has neither pods nor unfinished jobs; what was there stays known."""
        fleet.delete(node, partial(etag.check, request))
        response.status = falcon.HTTP_204


class NodeStatus:
    """`POST /internal/nodes/{node}/cordon`, `/uncordon` and `/drain`."""

    def __init__(self, status: str) -> None:
        self._status = status

    @operation(permission="manage", query=Query, body=Nothing, answer=NodeAnswer, etag=True)
    def on_post(self, request: falcon.Request, response: falcon.Response, node: str) -> None:
        """Keep new pods away from the node, or let them in again; `pods` says how many it has."""
        body.read(request, Nothing)
        rows.show(response, fleet.set_status(node, self._status))


class Pools:
    """`/internal/address-pools`."""

    @operation(permission="manage", query=PageQuery, answer=PageAnswer[PoolAnswer])
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with a page of address pools, newest first."""
        rows.page(response, AddressPool.select(), AddressPool, request.context.query, view=PoolView.of)

    @operation(permission="manage", query=Query, body=CreatePool, answer=PoolAnswer, status=201, etag=True)
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Make an address pool."""
        made = address_pools.create(body.read(request, CreatePool))
        rows.created(request, response, made, name=made.pool.name)


class OnePool:
    """`/internal/address-pools/{pool}`."""

    @operation(permission="manage", query=Query, answer=PoolAnswer, etag=True)
    def on_get(self, request: falcon.Request, response: falcon.Response, pool: str) -> None:
        """Answer with the pool."""
        rows.show(response, address_pools.show(pool))

    @operation(permission="manage", query=Query, body=ChangePool, answer=PoolAnswer, etag=True)
    def on_put(self, request: falcon.Request, response: falcon.Response, pool: str) -> None:
        """Change the fields that are named; no pod's address may come to be outside."""
        rows.show(response, address_pools.change(pool, body.read(request, ChangePool), partial(etag.check, request)))

    @operation(permission="manage", query=Query, status=204, etag=True)
    def on_delete(self, request: falcon.Request, response: falcon.Response, pool: str) -> None:
        """Delete a pool that no node has."""
        address_pools.delete(pool, partial(etag.check, request))
        response.status = falcon.HTTP_204


class Regions:
    """`GET /internal/regions`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @operation(permission="manage", query=PageQuery, answer=PageAnswer[RegionAnswer])
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with a page of regions, by name."""
        page = request.context.query.page(keys=1)
        Region.ensure_all(self._settings)
        found = Region.behind(page.after[0] if page.after else "", page.limit + 1)
        shown = found[: page.limit]
        following = paging.encode(shown[-1].name) if len(found) > page.limit else None
        response.media = {"items": [region.as_json() for region in shown], "next": following}


class OneRegion:
    """`/internal/regions/{region}`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @operation(permission="manage", query=Query, answer=RegionAnswer, etag=True)
    def on_get(self, request: falcon.Request, response: falcon.Response, region: str) -> None:
        """Answer with the region's vmids."""
        rows.show(response, vmid_ranges.show(region, self._settings))

    @operation(permission="manage", query=Query, body=ChangeRegion, answer=RegionAnswer, etag=True)
    def on_put(self, request: falcon.Request, response: falcon.Response, region: str) -> None:
        """Change which vmids its pods have; no pod's may come to be outside."""
        asked = body.read(request, ChangeRegion)
        rows.show(response, vmid_ranges.change(region, asked, self._settings, partial(etag.check, request)))
