import json
import pytest, sys
import importlib.util
spec=importlib.util.spec_from_file_location('tr','/work/main/tests/torch/test_replica.py'); tr=importlib.util.module_from_spec(spec); spec.loader.exec_module(tr)
from gpuward.simulator.allocator import *
from gpuward.simulator.allocator_config import AllocatorConfig
from gpuward.simulator.allocator_device import FixedDevice
MIB=1<<20
@pytest.mark.parametrize("seed",[1,2])
def test_x(node,seed):
    ops=tr.sequence(seed,800)
    conf="expandable_segments:True"
    lo=None
    for n in range(500,801,1) if False else [800]:
        real=node.run("replay.py",stdin=json.dumps(ops),PYTORCH_ALLOC_CONF=conf)
    d=FixedDevice(8192*MIB,used_bytes=8192*MIB-tr.USABLE)
    a=CachingAllocator(d,AllocatorConfig.parse(conf))
    def go(k):
        d=FixedDevice(8192*MIB,used_bytes=8192*MIB-tr.USABLE); a=CachingAllocator(d,AllocatorConfig.parse(conf)); bl={}
        for o in ops[:k]:
            if o[0]=='malloc':
                try: bl[o[1]]=a.malloc(o[2])
                except OutOfMemory: pass
            elif o[0]=='free':
                b=bl.pop(o[1],None)
                if b: a.free(b)
            else: a.empty_cache()
        return a,d
    def same(k):
        real=node.run("replay.py",stdin=json.dumps(ops[:k]),PYTORCH_ALLOC_CONF=conf)
        a,d=go(k)
        return tr.structure(real['snapshot'])==tr.structure(a.snapshot())
    lo,hi=0,800
    while hi-lo>1:
        m=(lo+hi)//2
        if same(m): lo=m
        else: hi=m
    print('first diff at',hi,ops[hi-1])
    for k in (hi-1,hi):
        real=node.run("replay.py",stdin=json.dumps(ops[:k]),PYTORCH_ALLOC_CONF=conf)
        a,d=go(k)
        for nm,sn in (('real',real['snapshot']),('repl',a.snapshot())):
            print(k,nm,'free',d.free_bytes/MIB)
            for s in sn:
                if s['segment_type']=='large': print('  seg',s['total_size']/MIB,[(round((b['address']-s['address'])/MIB,2),round(b['size']/MIB,2)) for b in s['blocks'] if b['state']=='inactive'])
    assert 0
