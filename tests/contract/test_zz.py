import time
from tests.contract.test_schemathesis import *
@pytest.mark.timeout(250)
async def test_all(world):
    c=time.process_time(); w=time.time(); th=time.thread_time(); fz=0; n=0
    def run(route):
        a=time.thread_time(); f=Fuzz(world, route); f.run(); return time.thread_time()-a, sum(f.statuses.values())
    for route in ROUTES:
        x,k=await asyncio.to_thread(run,route); fz+=x; n+=k
    print("cpu",time.process_time()-c,"wall",time.time()-w,"loop thread",time.thread_time()-th,"fuzz",fz,"cases",n)
